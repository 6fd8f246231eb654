/* Keys of the audit browser; every page works without. */
"use strict";
(() => {
    const page = document.querySelector("#content .audit-page");
    if (!page) {
        return;
    }
    const rows = () => [...page.querySelectorAll(".audit-rows .audit-title")];
    const move = (step) => {
        const links = rows();
        const at = links.indexOf(document.activeElement);
        const next = links[at < 0 ? (step > 0 ? 0 : links.length - 1) : at + step];
        if (next) {
            next.focus();
        }
    };
    document.addEventListener("keydown", (event) => {
        const typing = event.target.closest("input, textarea, select, [contenteditable]");
        if (typing || event.ctrlKey || event.metaKey || event.altKey) {
            return;
        }
        if (event.key === "/") {
            const box = document.getElementById("audit-q");
            if (box) {
                event.preventDefault();
                box.focus();
                box.select();
            }
        } else if (event.key === "j") {
            move(1);
        } else if (event.key === "k") {
            move(-1);
        }
    });
})();
