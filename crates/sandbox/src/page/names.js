// Made-up first names for agents. The Cloud names agents by ids alone. Each id has a first name
// here, so that a reader can tell agents apart. It is the same on both sides of the page.

const NAMES = [
  "Anna", "Ben", "Clara", "David", "Elif", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi", "Lena", "Mateo", "Nora",
  "Omar", "Paula",
];

/** Returns the first name for an agent's id. */
export function nameOf(id) {
  let sum = 0;
  for (const unit of String(id ?? "")) sum = (sum * 31 + unit.codePointAt(0)) % 65521;
  return NAMES[sum % NAMES.length];
}

/** Returns the displayed name of a sender of the brand's side, by the roles in the API's events. */
export function brandName({ id, role }) {
  switch (role) {
    case "bot": return "Bot";
    case "manager": return "Manager";
    case "system": return "Automatic message";
    default: return nameOf(id);
  }
}
