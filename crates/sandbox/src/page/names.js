// The Cloud names agents by ids alone. So that a reader can tell them apart, each id has a first name here, the same one on
// both sides of the page; the names are made up.

const NAMES = [
  "Anna", "Ben", "Clara", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Mateo", "Nora",
  "Omar", "Paula",
];

/** The first name that stands for an agent's id. */
export function nameOf(id) {
  let sum = 0;
  for (const unit of String(id ?? "")) sum = (sum * 31 + unit.codePointAt(0)) % 65521;
  return NAMES[sum % NAMES.length];
}

/** How someone of the brand is called, by the roles of the facade's events. */
export function brandName({ id, role }) {
  switch (role) {
    case "bot": return "Bot";
    case "manager": return "Manager";
    case "system": return "Automatic message";
    default: return nameOf(id);
  }
}
