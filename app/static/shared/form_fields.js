// The values of the controls inside a form (or any element), by name: texts, and lists of texts for groups of checkboxes.

export function fields(form) {
  const values = {};
  for (const control of form.querySelectorAll("[name]")) {
    const many = control.dataset.many !== undefined;
    if (many) values[control.name] ??= [];
    if ((control.type === "checkbox" || control.type === "radio") && !control.checked) continue;
    if (many) values[control.name].push(control.value);
    else values[control.name] = control.value;
  }
  return values;
}
