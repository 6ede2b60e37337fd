// The dialogs: one for the key, and one that confirms an action.

import { ApiError, key, storeKey } from "./api.js";
import { byId } from "./dom.js";

/** Shows an error message, or hides it. */
export function showMessage(element, text) {
  element.textContent = text ?? "";
  element.hidden = !text;
}

/** Opens a dialog; resolves to its return value when it closes. */
function openDialog(dialog) {
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
  showMessage(byId("key-error"), error);
  const outcome = await openDialog(dialog);
  if (outcome === "use") {
    storeKey(input.value.trim());
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

/** Performs an action that needs the key. Asks for a key if there is none or the service refuses it. */
export async function withKey(action) {
  if (!key() && !(await askForKey())) {
    return undefined;
  }
  for (;;) {
    try {
      return await action();
    } catch (error) {
      const isKeyRefused = error instanceof ApiError && error.code === "operator-key-refused";
      if (!isKeyRefused) {
        throw error;
      }
      storeKey(null);
      if (!(await askForKey("This key was refused. Keys are case-sensitive."))) {
        return undefined;
      }
    }
  }
}

/** The action to perform when the operator confirms. */
let pendingAction = null;

/** Asks for confirmation and performs the action; returns true if it was done. */
export async function confirm({ title, text, button }, action) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-do").textContent = button;
  byId("confirm-do").disabled = false;
  showMessage(byId("confirm-error"), null);
  pendingAction = action;
  return (await openDialog(byId("confirm-dialog"))) === "done";
}

byId("confirm-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [dialog, button] = [byId("confirm-dialog"), byId("confirm-do")];
  button.disabled = true;
  showMessage(byId("confirm-error"), null);
  try {
    if ((await withKey(pendingAction)) !== undefined) {
      dialog.close("done");
    }
  } catch (error) {
    showMessage(byId("confirm-error"), error.text ?? String(error));
  } finally {
    button.disabled = false;
  }
});

byId("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("key-dialog").close("use");
});
