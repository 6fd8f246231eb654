/* Shows how many rows have come since the list was read. Rows never move by themselves; the link reads the list anew. */
"use strict";
(() => {
    const box = document.querySelector("#audit .audit-live");
    if (!box || !window.fetch) {
        return;
    }
    const link = box.querySelector("a");
    const button = box.querySelector("button");
    const every = Number(box.dataset.seconds) * 1000;
    const longest = 300000;
    const title = document.title;
    const key = "audit-live-paused";
    let wait = every;
    let timer = 0;
    let asking = false;
    let enough = false;
    let paused = false;
    try {
        paused = sessionStorage.getItem(key) === "1";
    } catch {
        // Storage may be forbidden; the choice then lasts as long as the page.
    }

    const plan = () => {
        clearTimeout(timer);
        if (!paused && !asking && !enough && !document.hidden) {
            // Not all open pages at the same moment.
            timer = setTimeout(ask, wait * (0.9 + Math.random() / 5));
        }
    };
    const ask = async () => {
        asking = true;
        try {
            const response = await fetch(box.dataset.url, {
                headers: {Accept: "application/json"},
                credentials: "same-origin",
                cache: "no-store",
                redirect: "error",
            });
            if (!response.ok) {
                throw new Error(response.statusText);
            }
            const newer = await response.json();
            wait = every;
            enough = newer.more;
            box.classList.remove("audit-lost");
            if (newer.count && link.textContent !== newer.label) {
                link.textContent = newer.label;
                link.hidden = false;
                document.title = `(${newer.label}) ${title}`;
            }
        } catch {
            wait = Math.min(wait * 2, longest);
            box.classList.add("audit-lost");
        }
        asking = false;
        plan();
    };
    const show = () => button.setAttribute("aria-pressed", String(!paused));

    button.addEventListener("click", () => {
        paused = !paused;
        try {
            sessionStorage.setItem(key, paused ? "1" : "0");
        } catch {
            // As above.
        }
        wait = every;
        show();
        plan();
    });
    document.addEventListener("visibilitychange", () => {
        if (!document.hidden && !paused && !asking && !enough) {
            clearTimeout(timer);
            ask();
        } else {
            plan();
        }
    });
    show();
    box.hidden = false;
    plan();
})();
