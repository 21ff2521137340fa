// What htmx and HTML cannot do alone. Every page works without this file, but refreshes less well.
"use strict";

(() => {
  const LOG_LIMIT = 4_000_000; // characters of a followed log that are kept in the page
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
    if (!target.id || requestConfig.verb !== "get" || target.id === "log-text") return;
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
  document.addEventListener("htmx:afterSettle", () => announce(true));

  // The log scrolls to its end, unless the user has scrolled away from it.
  let following = true;
  const log = () => document.getElementById("log");
  const follow = () => {
    const box = log();
    if (box && following && box.hasAttribute("data-follow")) box.scrollTop = box.scrollHeight;
  };
  const forget = () => {
    const text = document.getElementById("log-text");
    let length = text.textContent.length;
    while (length > LOG_LIMIT && text.childElementCount > 1) {
      length -= text.firstElementChild.textContent.length;
      text.firstElementChild.remove();
    }
  };
  document.addEventListener("htmx:afterSwap", (event) => {
    if (event.detail.target.id !== "log-text") return;
    if (following) forget();
    follow();
  });

  document.addEventListener("DOMContentLoaded", () => {
    announce(false);
    follow();
    log()?.addEventListener("scroll", () => {
      const box = log();
      following = box.scrollHeight - box.scrollTop - box.clientHeight < 16;
    });
  });
})();
