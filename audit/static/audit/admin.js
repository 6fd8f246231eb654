/* Keys of the audit browser; every page works without. */
"use strict";
(() => {
    const page = document.querySelector("#audit .audit-page");
    if (!page) {
        return;
    }
    const step = (links, by) => {
        const at = links.indexOf(document.activeElement);
        const next = links[at < 0 ? (by > 0 ? 0 : links.length - 1) : at + by];
        if (next) {
            next.focus();
        }
        return next;
    };
    const titles = () => [...page.querySelectorAll(".audit-rows .audit-title")];
    const help = page.querySelector(".audit-keys");

    // One tab stop for a chart: the bar that was last looked at.
    page.querySelectorAll(".audit-chart").forEach((chart) => {
        const bars = [...chart.querySelectorAll(".audit-bar")];
        bars.forEach((bar, at) => {
            bar.addEventListener("keydown", (event) => {
                const to = {
                    ArrowRight: bars[at + 1],
                    ArrowLeft: bars[at - 1],
                    Home: bars[0],
                    End: bars[bars.length - 1],
                };
                if (event.key in to) {
                    event.preventDefault();
                    const next = to[event.key];
                    if (next) {
                        bars.forEach((each) => each.setAttribute("tabindex", each === next ? "0" : "-1"));
                        next.focus();
                    }
                }
            });
        });
    });

    // Keys of one character are in the way of people who speak to the computer: they can be switched off.
    const stored = "audit-keys-off";
    let off = false;
    try {
        off = localStorage.getItem(stored) === "1";
    } catch {
        // Storage may be forbidden; the choice then lasts as long as the page.
    }
    const toggle = help && help.querySelector(".audit-switch");
    if (toggle) {
        const box = toggle.querySelector("input");
        box.checked = !off;
        box.addEventListener("change", () => {
            off = !box.checked;
            try {
                localStorage.setItem(stored, off ? "1" : "0");
            } catch {
                // As above.
            }
        });
        toggle.hidden = false;
    }
    const written = "input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]";
    document.addEventListener("keydown", (event) => {
        const typing = event.target.closest(written);
        if (event.key === "Escape") {
            const shut = [...page.querySelectorAll(".audit-custom[open], .audit-keys[open]")].pop();
            if (shut) {
                shut.open = false;
                shut.querySelector("summary").focus();
            } else if (typing) {
                event.target.blur();
            }
        }
        if (typing || off || event.ctrlKey || event.metaKey || event.altKey) {
            return;
        }
        const box = document.getElementById("audit-q");
        if (event.key === "/" && box) {
            event.preventDefault();
            box.focus();
            box.select();
        } else if (event.key === "j") {
            step(titles(), 1);
        } else if (event.key === "k") {
            step(titles(), -1);
        } else if (event.key === "x") {
            const row = document.activeElement.closest(".audit-rows tr");
            const choice = row && row.querySelector(".audit-pick input");
            if (choice) {
                event.preventDefault();
                choice.click();
            }
        } else if (event.key === "?" && help) {
            help.open = !help.open;
            if (help.open) {
                help.querySelector("summary").focus();
            }
        }
    });
})();
