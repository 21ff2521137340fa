// What htmx and HTML cannot do by themselves. Every page works without this file; it only refreshes itself less well.
"use strict";

(() => {
  const LOG_LIMIT = 4_000_000; // characters of a followed log that are kept in the page
  const announcer = () => document.getElementById("announcer");
  let said;

  // A tab that nobody looks at asks for nothing; when it is looked at again, it asks at once.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) document.body.dispatchEvent(new Event("wake"));
  });

  // Say when what the page shows may be old, and when it is not any more.
  const stale = (is) => () => (document.getElementById("stale").hidden = !is);
  document.addEventListener("htmx:sendError", stale(true));
  document.addEventListener("htmx:responseError", stale(true));
  document.addEventListener("htmx:beforeSwap", (event) => stale(event.detail.isError)());

  // An answer that says the same as the one before is not put into the page: nothing flickers, no selection is lost.
  const answers = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const { target, serverResponse, requestConfig } = event.detail;
    if (!target.id || requestConfig.verb !== "get" || target.id === "log-text") return;
    if (answers.get(target.id) === serverResponse) event.detail.shouldSwap = false;
    answers.set(target.id, serverResponse);
  });

  // Say what a part of the page has to announce, once for each change of it.
  const announce = (aloud) => {
    const news = [...document.querySelectorAll("[data-announce]")].map((part) => part.dataset.announce).join(". ");
    if (news === said) return;
    if (aloud && announcer()) {
      announcer().textContent = news;
      document.body.dispatchEvent(new Event("news"));
    }
    said = news;
  };
  document.addEventListener("htmx:afterSettle", () => announce(true));

  // The log follows its end unless the reader has scrolled away from it.
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
