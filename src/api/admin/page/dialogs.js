// The dialogs: one for the key, and one that confirms an action.

import { Refusal, keepKey, key } from "./api.js";
import { byId } from "./dom.js";

/** Shows an error message, or hides it. */
export function tell(element, words) {
  element.textContent = words ?? "";
  element.hidden = !words;
}

/** Opens a dialog; resolves to its return value when it closes. */
function opened(dialog) {
  dialog.returnValue = "";
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue), { once: true });
    dialog.showModal();
  });
}

/** Asks for the operator's key; returns true if there is a key afterwards. */
export async function askForKey(error) {
  const [dialog, input] = [byId("key-dialog"), byId("key-input")];
  input.value = "";
  tell(byId("key-error"), error);
  const outcome = await opened(dialog);
  if (outcome === "use") {
    keepKey(input.value.trim());
  }
  input.value = "";
  showKey(true);
  return Boolean(key());
}

/** Shows in the header if this tab may act. */
export function showKey(mayAct) {
  const button = byId("key");
  button.disabled = !mayAct;
  button.textContent = key() && mayAct ? "Operator" : mayAct ? "Enter key" : "Read only";
  button.title = mayAct ? "" : "No operator key is configured, so this page is read-only.";
}

/** Does work that needs the key. Asks for a key if there is none or the service refuses it. */
export async function withKey(work) {
  if (!key() && !(await askForKey())) {
    return undefined;
  }
  for (;;) {
    try {
      return await work();
    } catch (refusal) {
      const isKey = refusal instanceof Refusal && refusal.code === "operator-key-refused";
      if (!isKey) {
        throw refusal;
      }
      keepKey(null);
      if (!(await askForKey("This key was refused. Keys are case-sensitive."))) {
        return undefined;
      }
    }
  }
}

/** The action to do when the operator confirms. */
let work = null;

/** Asks for confirmation and performs the action; returns true if it was done. */
export async function confirm({ title, text, button }, doIt) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-do").textContent = button;
  byId("confirm-do").disabled = false;
  tell(byId("confirm-error"), null);
  work = doIt;
  return (await opened(byId("confirm-dialog"))) === "done";
}

byId("confirm-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [dialog, button] = [byId("confirm-dialog"), byId("confirm-do")];
  button.disabled = true;
  tell(byId("confirm-error"), null);
  try {
    if ((await withKey(work)) !== undefined) {
      dialog.close("done");
    }
  } catch (refusal) {
    tell(byId("confirm-error"), refusal.words ?? String(refusal));
  } finally {
    button.disabled = false;
  }
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("key-dialog").close("use");
});
