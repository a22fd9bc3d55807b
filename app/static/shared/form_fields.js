// What the controls inside a form (or any element) say, by name: texts, and lists of texts for groups of checkboxes.
function fields(form) {
  const found = {};
  for (const control of form.querySelectorAll("[name]")) {
    const many = control.dataset.many !== undefined;
    if (many) found[control.name] ??= [];
    if ((control.type === "checkbox" || control.type === "radio") && !control.checked) continue;
    if (many) found[control.name].push(control.value);
    else found[control.name] = control.value;
  }
  return found;
}
