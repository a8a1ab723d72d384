// What every part of the page needs: its elements, and what it says.

export const $ = (id) => document.getElementById(id);

export function say(text) {
  $("problem").textContent = "";
  $("status").textContent = text;
}

export function complain(text) {
  $("status").textContent = "";
  $("problem").textContent = text;
}

/** A listener that says what went wrong, whatever it is. */
export function reporting(action) {
  return async (event) => {
    event.preventDefault();
    try {
      await action(event);
    } catch (error) {
      complain(`This did not work: ${error.message}`);
    }
  };
}
