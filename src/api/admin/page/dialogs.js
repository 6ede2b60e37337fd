// The dialogs: one for the key, and one that confirms an action.

import { ApiError, check, key, storeKey } from "./api.js";
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

const KEY_REFUSED = "This key was refused. Keys are case-sensitive.";

/** True for the error about a key that is not an operator's. */
function isKeyRefused(error) {
  return error instanceof ApiError && error.code === "operator-key-refused";
}

/** Asks for the operator's key; returns true if there is a key afterwards. */
export async function askForKey(error) {
  const input = byId("key-input");
  input.value = "";
  showMessage(byId("key-error"), error);
  await openDialog(byId("key-dialog"));
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
      if (!isKeyRefused(error)) {
        throw error;
      }
      storeKey(null);
      if (!(await askForKey(KEY_REFUSED))) {
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

// A key is stored only after the service has accepted it.
byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [dialog, button] = [byId("key-dialog"), byId("key-use")];
  const entered = byId("key-input").value.trim();
  button.disabled = true;
  showMessage(byId("key-error"), null);
  try {
    // A header cannot hold other characters, and a key has only these.
    if (!/^[\x21-\x7e]+$/.test(entered)) {
      throw new ApiError(401, { code: "operator-key-refused" });
    }
    await check(entered);
    // The operator may have cancelled meanwhile.
    if (dialog.open) {
      storeKey(entered);
      dialog.close();
    }
  } catch (error) {
    showMessage(byId("key-error"), isKeyRefused(error) ? KEY_REFUSED : error.text ?? String(error));
  } finally {
    button.disabled = false;
  }
});
