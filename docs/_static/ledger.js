// Shows only the claims of one verdict; without scripts every row is visible.
document.addEventListener("DOMContentLoaded", () => {
  const buttons = document.querySelectorAll("button[data-verdict]");
  buttons.forEach((button) => button.addEventListener("click", () => {
    const wanted = button.dataset.verdict;
    document.querySelectorAll("tr[data-verdict]").forEach((row) => {
      row.hidden = wanted !== "all" && row.dataset.verdict !== wanted;
    });
    buttons.forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
  }));
});
