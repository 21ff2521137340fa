// What htmx and HTML cannot do alone. Every page works without this file, but refreshes less well.
"use strict";

(() => {
  const announcer = () => document.getElementById("announcer");
  let announced;

  // A hidden tab requests nothing. When it becomes visible, it refreshes at once.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.body.dispatchEvent(new Event("wake"));
  });

  // Show a notice while the page may be out of date.
  const stale = (is) => () => (document.getElementById("stale").hidden = !is);
  document.addEventListener("htmx:sendError", stale(true));
  document.addEventListener("htmx:responseError", stale(true));
  document.addEventListener("htmx:beforeSwap", (event) => stale(event.detail.isError)());

  // A response equal to the previous one is not swapped in: nothing flickers, and no selection is lost.
  const answers = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, serverResponse, requestConfig } = event.detail;
    if (!target.id || requestConfig.verb !== "get") return;
    if (answers.get(target.id) === serverResponse) event.detail.shouldSwap = false;
    answers.set(target.id, serverResponse);
  });

  // Announce each change of a part of the page once.
  const announce = (aloud) => {
    const news = [...document.querySelectorAll("[data-announce]")].map((part) => part.dataset.announce).join(". ");
    if (news === announced) return;
    if (aloud && announcer()) {
      announcer().textContent = news;
      document.body.dispatchEvent(new Event("news"));
    }
    announced = news;
  };
  // The tab's title and icon carry the state of what the page is about.
  const tab = () => {
    const part = document.querySelector("[data-title]");
    if (!part) return;
    if (document.title !== part.dataset.title) document.title = part.dataset.title;
    const icon = document.getElementById("favicon");
    if (icon.getAttribute("href") !== part.dataset.favicon) icon.setAttribute("href", part.dataset.favicon);
  };
  document.addEventListener("htmx:afterSettle", () => (tab(), announce(true)));

  document.addEventListener("DOMContentLoaded", () => announce(false));
})();
