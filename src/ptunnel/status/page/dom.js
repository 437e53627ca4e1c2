// Elements that are kept and changed in place, so that focus and selection survive an update. What
// the server says becomes text, never markup.

/** The elements of a tree that have a data-field, by that name. */
export function fields(root) {
  const found = {};
  for (const element of root.querySelectorAll("[data-field]")) {
    found[element.dataset.field] = element;
  }
  return found;
}

/** Give an element a text; not while somebody has selected it to copy it. */
export function write(element, text) {
  const node = element.firstChild;
  if (node === null) element.append(text);
  else if (node.data !== text && !isSelected(element)) node.data = text;
}

export function show(element, visible) {
  if (element.hidden === visible) element.hidden = !visible;
}

/** Set or remove an attribute, if that changes anything. */
export function mark(element, name, value) {
  if (value === null) element.removeAttribute(name);
  else if (element.getAttribute(name) !== value) element.setAttribute(name, value);
}

let selected = null;

// Asked once for each selection: to ask for each text costs a layout each.
document.addEventListener("selectionchange", () => {
  const selection = getSelection();
  selected = selection.isCollapsed ? null : selection.getRangeAt(0);
});

function isSelected(element) {
  return selected !== null && selected.intersectsNode(element);
}

/** The rows of a table or list, each made once from a template and then updated. */
export class Rows {
  #body;
  #template;
  #update;
  #rows = new Map();

  /**
   * @param body the element that holds the rows.
   * @param template its id.
   * @param update called with a row's fields, its item, and the row.
   */
  constructor(body, template, update) {
    this.#body = body;
    this.#template = document.getElementById(template).content;
    this.#update = update;
  }

  /** Show these items in this order. `key` names an item for good. */
  show(items, key) {
    const shown = new Map();
    for (const item of items) {
      const name = key(item);
      const row = this.#rows.get(name) ?? this.#make();
      row.item = item;
      this.#update(row.fields, item, row.element);
      shown.set(name, row);
    }
    this.#removeOthers(shown);
    this.#rows = shown;
    this.#order([...shown.values()].map((row) => row.element));
  }

  #make() {
    const element = this.#template.cloneNode(true).firstElementChild;
    const row = { element, fields: fields(element), item: null };
    for (const button of element.querySelectorAll("button")) {
      button.addEventListener("click", () => {
        const detail = { action: button.dataset.action, item: row.item };
        button.dispatchEvent(new CustomEvent("act", { bubbles: true, detail }));
      });
    }
    return row;
  }

  #removeOthers(shown) {
    for (const [name, { element }] of this.#rows) {
      if (shown.has(name)) continue;
      const focused = element.contains(document.activeElement);
      const neighbour = element.nextElementSibling ?? element.previousElementSibling;
      element.remove();
      // Who works by keyboard goes on from where the row was.
      if (focused) neighbour?.querySelector("button:not([hidden])")?.focus();
    }
  }

  /** Bring the rows into order without moving the one that has the focus, which it would lose. */
  #order(wanted) {
    const pinned = wanted.find((row) => row.contains(document.activeElement));
    let next = this.#body.firstElementChild;
    for (const row of wanted) {
      if (row === pinned) {
        while (next !== pinned) {
          const passed = next;
          next = next.nextElementSibling;
          this.#body.append(passed);
        }
      }
      if (row === next) next = next.nextElementSibling;
      else this.#body.insertBefore(row, next);
    }
  }
}
