/* Choosing all rows at once, and how many are chosen; every page works without. */
"use strict";
(() => {
    const form = document.getElementById("audit-decide");
    const page = document.querySelector("#audit .audit-page");
    if (!form || !page) {
        return;
    }
    const boxes = [...page.querySelectorAll(".audit-rows .audit-pick input")];
    const all = form.querySelector(".audit-pick-all");
    const status = form.querySelector("[data-chosen]");
    const without = status && status.textContent;
    const showCount = () => {
        const count = boxes.filter((box) => box.checked).length;
        if (status) {
            status.textContent = count ? status.dataset.chosen.replace("{count}", count) : without;
        }
        if (all) {
            const box = all.querySelector("input");
            box.checked = count > 0 && count === boxes.length;
            box.indeterminate = count > 0 && count < boxes.length;
        }
    };
    if (all && boxes.length > 1) {
        all.hidden = false;
        all.querySelector("input").addEventListener("change", (event) => {
            boxes.forEach((box) => {
                box.checked = event.target.checked;
            });
            showCount();
        });
    }
    boxes.forEach((box) => box.addEventListener("change", showCount));
    // A browser that comes back may have kept what was checked.
    window.addEventListener("pageshow", showCount);
    showCount();
})();
