// What the page of a run can do beyond links: choosing a job or unfolding a matrix changes only that part of the page,
// and a refresh keeps how far the graph is scrolled. Without this file, the same links load the whole page.
"use strict";

(() => {
  // Where the graph is scrolled to.
  let place = [0, 0];
  const scrolled = () => document.getElementById("graph-scroll");
  const chosen = () => document.querySelector(".node[aria-current]");

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-part]");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    const address = new URL(link.getAttribute("href"), location.href);
    const opens = address.hash !== "";
    address.hash = "";
    history.replaceState(null, "", address);
    const before = chosen()?.id;
    htmx.ajax("GET", address.pathname + address.search, { target: "#run", swap: "outerHTML" }).then(() => {
      // The link may be gone: then the focus goes to the job that it was about.
      if (document.activeElement === document.body) (chosen() ?? document.getElementById(before))?.focus({ preventScroll: true });
      if (opens) show(document.getElementById("beside"));
    });
  });

  const show = (beside) => {
    if (!beside) return;
    document.getElementById("announcer").textContent = `Beside the graph: ${chosen()?.getAttribute("aria-label")}`;
    // On a phone, the job is below the graph.
    if (beside.getBoundingClientRect().top > innerHeight * 0.8) beside.scrollIntoView({ block: "start" });
  };

  document.addEventListener("htmx:beforeSwap", () => {
    const graph = scrolled();
    if (graph) place = [graph.scrollLeft, graph.scrollTop];
  });
  document.addEventListener("htmx:afterSwap", () => scrolled()?.scrollTo(...place));
})();
