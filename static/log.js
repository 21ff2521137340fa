// The log of a job: only the blocks of lines that are near what one sees are in the page, however long the log is.
"use strict";

(() => {
  const BLOCK = 100; // lines, as in apps/dashboard/views/log.py
  const MOST_LINES = 1200; // in the page
  const MOST_NODES = 4500; // in the log
  const CACHED = 40; // blocks that are kept besides
  const TALLEST = 12_000_000; // pixels; browsers cut off taller elements
  const FOLLOW_MS = 1000;

  const byId = (id) => document.getElementById(id);
  const blockOf = (line) => Math.floor((line - 1) / BLOCK);

  const duration = (seconds) => {
    const whole = Math.max(0, Math.floor(seconds));
    const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
    return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min ${whole % 60} s` : `${whole} s`;
  };

  // What one has chosen stays for the next log.
  const kept = (() => {
    try {
      return JSON.parse(localStorage.getItem("log")) ?? {};
    } catch {
      return {};
    }
  })();
  const keep = (values) => {
    Object.assign(kept, values);
    try {
      localStorage.setItem("log", JSON.stringify(kept));
    } catch {
      // The browser stores nothing. The choice holds for this page.
    }
  };

  // Makes the log in the page live until `signal` ends it. Returns what the rest of the page may ask of it.
  const start = (log, signal) => {
    const lines = byId("log-lines");
    const [above, below, edge, news] = ["log-above", "log-below", "log-edge", "log-new"].map(byId);
    const { url, attempt } = log.dataset;
    const begun = Date.parse(log.dataset.begun) / 1000 || 0;
    const on = (target, type, listener) => target.addEventListener(type, listener, { signal });

    const folds = new LogFolds();
    const blocks = new Map(); // number → element; of those with a shown line, without gaps
    const heights = new Map(); // number → pixels, of the blocks that have been in the page
    const cache = new Map(); // number → HTML, of blocks that do not change any more
    let { total, complete } = JSON.parse(log.dataset.state);
    let following = !log.dataset.line && !/^#L\d/.test(location.hash);
    let seen = total; // the lines that one has had the chance to see
    let chosen = [0, -1];
    let hits = { lines: [], set: new Set(), at: -1 };
    let errors;
    let times = "off";
    let moving = 0; // counts the requests to go somewhere: a later one wins

    const top = (part) => part.getBoundingClientRect().top - log.getBoundingClientRect().top + log.scrollTop;
    const request = async (part, query) => {
      const answer = await fetch(`${url}${part}?${new URLSearchParams({ attempt, ...query })}`, { signal });
      if (!answer.ok) throw new Error((await answer.json().catch(() => ({}))).detail ?? `The server answered ${answer.status}.`);
      return answer;
    };

    // What goes wrong on the way somewhere is said below the log.
    const guarded =
      (action) =>
      async (...values) => {
        try {
          return await action(...values);
        } catch (error) {
          if (!signal.aborted) edge.textContent = error.message;
        }
      };

    // The order of the blocks that have a shown line.
    const next = (number) => {
      const line = folds.following((number + 1) * BLOCK + 1);
      return line <= total ? blockOf(line) : null;
    };
    const previous = (number) => (number > 0 ? blockOf(folds.preceding(number * BLOCK)) : null);
    const last = () => blockOf(Math.max(1, folds.preceding(total)));
    const around = (number) => [previous(number), number, next(number)].filter((other) => other !== null);
    const shownIn = (from, to) => (to <= from ? 0 : folds.shown(Math.min(total, to * BLOCK)) - folds.shown(Math.min(total, from * BLOCK)));
    // Blocks beyond one, in a direction, with about a block of shown lines, since folds may leave few in each.
    const beyond = (number, step) => {
      const found = [];
      for (let count = 0; count < BLOCK && found.length < 8; ) {
        number = step(number);
        if (number === null) break;
        found.push(number);
        count += shownIn(number, number + 1);
      }
      return found.sort((one, other) => one - other);
    };

    // The height of what is not in the page is estimated; of a very long log, its scroll bar is compressed.
    const lineHeight = () => parseFloat(getComputedStyle(log).lineHeight) || 20;
    const estimate = (from, to) => {
      if (to <= from) return 0;
      const whole = lineHeight();
      const each = Math.min(whole, TALLEST / Math.max(1, folds.shown(total)));
      let pixels = shownIn(from, to) * each;
      if (each === whole) for (const [number, height] of heights) if (number >= from && number < to) pixels += height - shownIn(number, number + 1) * each;
      return Math.max(0, pixels);
    };
    const bounds = () => {
      const numbers = [...blocks.keys()];
      return numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, -1];
    };
    const spacers = () => {
      const [first, end] = bounds();
      above.style.height = `${estimate(0, first)}px`;
      below.style.height = `${estimate(end + 1, blockOf(total) + 1)}px`;
    };

    // The header of a fold is its line as a button, and of a step also its state.
    const head = (line, fold) => {
      let button = line.querySelector(".fold");
      if (!button) {
        button = document.createElement("button");
        button.type = "button";
        button.className = "fold";
        const name = document.createElement("span");
        name.className = "fold-name";
        name.append(...[...line.childNodes].filter((node) => !node.dataset?.n));
        if (fold.step) name.textContent = name.textContent.replace(/^── step \d+\/\d+: /, "") || `step ${fold.step.number}`;
        button.append(name);
        line.append(button);
        line.classList.add(fold.step ? "line-head" : "line-subhead");
      }
      button.setAttribute("aria-expanded", String(!folds.closed.has(fold.line)));
      if (!fold.step) return;
      const { state, exit_code: code } = fold.step;
      const since = Number(line.dataset.at);
      const took = fold.step.took ?? (state === "running" && since ? duration(Date.now() / 1000 - since) : "");
      const facts = [state, code, took].join();
      if (button.dataset.facts === facts) return;
      button.dataset.facts = facts;
      button.querySelector(".fold-facts")?.remove();
      const part = document.createElement("span");
      part.className = "fold-facts";
      const look = byId("log-states").content.querySelector(`[data-of="${state}"] .state`);
      part.append(...[code ? `exit ${code}` : "", took].filter(Boolean).map((text) => Object.assign(document.createElement("span"), { textContent: text })));
      if (look) part.prepend(look.cloneNode(true));
      button.append(part);
    };

    // What a line looks like beyond its text.
    const adorn = (block) => {
      for (const line of block.children) {
        const number = Number(line.id.slice(1));
        line.classList.toggle("line-chosen", number >= chosen[0] && number <= chosen[1]);
        line.classList.toggle("line-hit", hits.set.has(number));
        const fold = folds.at(number);
        if (fold) head(line, fold);
        const at = Number(line.dataset.at);
        if (times === "off" || !at) delete line.dataset.time;
        else line.dataset.time = times === "absolute" ? new Date(at * 1000).toLocaleTimeString() : `+${Math.max(0, Math.round(at - begun))} s`;
      }
    };
    const adornAll = () => blocks.forEach(adorn);

    const put = (number, html) => {
      const block = document.createElement("div");
      block.className = "log-block";
      block.innerHTML = html;
      for (const line of [...block.children]) if (folds.isHidden(Number(line.id.slice(1)))) line.remove();
      adorn(block);
      block.style.containIntrinsicBlockSize = `auto ${1.55 * block.childElementCount}em`;
      block.whole = complete || (number + 1) * BLOCK < total;
      block.nodes = 2 * block.getElementsByTagName("*").length;
      const old = blocks.get(number);
      const after = old ? null : [...blocks.keys()].filter((other) => other > number).sort((one, other) => one - other)[0];
      if (old) old.replaceWith(block);
      else if (after !== undefined) blocks.get(after).before(block);
      else lines.append(block);
      blocks.set(number, block);
    };
    const drop = (number) => {
      if (blocks.get(number).whole) heights.set(number, blocks.get(number).offsetHeight);
      blocks.get(number).remove();
      blocks.delete(number);
    };
    const trim = () => {
      const parts = [...blocks.values()];
      let nodes = parts.reduce((sum, block) => sum + block.nodes, 0);
      let count = parts.reduce((sum, block) => sum + block.childElementCount, 0);
      while (blocks.size > 2 && (nodes > MOST_NODES || count > MOST_LINES)) {
        const [first, end] = bounds();
        const [over, under] = [blocks.get(first), blocks.get(end)];
        const upper = log.scrollTop - (top(over) + over.offsetHeight);
        const lower = top(under) - (log.scrollTop + log.clientHeight);
        // What one sees stays.
        if (Math.max(upper, lower) < 0) break;
        const gone = upper > lower ? over : under;
        nodes -= gone.nodes;
        count -= gone.childElementCount;
        drop(upper > lower ? first : end);
      }
    };

    const html = async (number) => {
      const known = cache.get(number);
      if (known !== undefined) return known;
      const whole = complete || (number + 1) * BLOCK < total;
      const text = await (await request("lines", { block: number })).text();
      if (whole) cache.set(number, text);
      if (cache.size > CACHED) cache.delete(cache.keys().next().value);
      return text;
    };
    // Show these blocks, which follow one another; blocks far from them go. What one reads stays where it is.
    const show = async (wanted, { anew = false, reset = false } = {}) => {
      const going = moving;
      if (!wanted.length) return true;
      const found = await Promise.all(wanted.filter((number) => anew || reset || !blocks.has(number)).map(async (number) => [number, await html(number)]));
      if (going !== moving || signal.aborted) return false;
      const [first, end] = bounds();
      if (reset || wanted[0] > (next(end) ?? end + 1) || wanted.at(-1) < (previous(first) ?? first)) [...blocks.keys()].forEach(drop);
      if (reset) heights.clear();
      const anchor = [...blocks.values()].find((block) => top(block) + block.offsetHeight > log.scrollTop);
      const before = anchor && top(anchor);
      // From the last one on, so that each block finds the one after it.
      for (const [number, text] of found.reverse()) put(number, text);
      spacers();
      if (anchor?.isConnected && !following) log.scrollTop += top(anchor) - before;
      return true;
    };
    // Load what is near what one sees.
    const fill = async (margin = log.clientHeight) => {
      const going = moving;
      for (let turn = 0; turn < 12 && going === moving; turn++) {
        const [first, end] = bounds();
        const begins = log.scrollTop;
        if (end < last() && top(below) - begins - log.clientHeight < margin) await show(beyond(end, next));
        else if (first > 0 && begins - top(lines) < margin) await show(beyond(first, previous));
        else break;
      }
      if (going !== moving) return;
      const held = [...blocks.values()].find((block) => top(block) + block.offsetHeight > log.scrollTop);
      const before = held && top(held);
      trim();
      spacers();
      if (held?.isConnected && !following) log.scrollTop += top(held) - before;
    };

    const toEnd = () => {
      log.scrollTop = log.scrollHeight;
      scrolledTo = log.scrollTop;
    };
    // Blocks get their height when they come into view, and long lines are then wrapped: the end moves down.
    const growth = new ResizeObserver(() => {
      if (following) toEnd();
    });
    growth.observe(lines);
    growth.observe(log);
    signal.addEventListener("abort", () => growth.disconnect());
    // Go to a line; `share` says where in the window it shall be.
    const toLine = guarded(async (number, { share = 1 / 3, until = number, reset = false } = {}) => {
      following = false;
      moving++;
      number = Math.min(Math.max(1, number), Math.max(1, total));
      if (folds.reveal(number, until)) reset = true;
      if (!(await show(around(blockOf(number)), { reset }))) return;
      // Twice, since blocks get their height when they come into view.
      for (let turn = 0; turn < 2; turn++) {
        const line = byId(`L${number}`);
        if (line) log.scrollTop = top(line) - log.clientHeight * share;
        if (!turn) await fill();
      }
      scrolledTo = log.scrollTop;
      foldButton();
    });
    const choose = (first, end) => {
      chosen = [Math.min(first, end), Math.max(first, end)];
      adornAll();
    };

    // Fold or unfold, and keep the header where it is.
    const fold = guarded(async (line, closed) => {
      const header = byId(`L${line}`);
      const place = header ? top(header) - log.scrollTop : log.clientHeight / 3;
      const focused = header?.contains(document.activeElement);
      folds.set(line, closed);
      following = false;
      moving++;
      if (!(await show(around(blockOf(line)), { reset: true }))) return;
      const back = () => {
        const now = byId(`L${line}`);
        if (now) log.scrollTop = top(now) - place;
        return now;
      };
      const now = back();
      if (focused) now?.querySelector(".fold")?.focus({ preventScroll: true });
      await fill();
      back();
      foldButton();
    });
    const foldAll = byId("log-fold");
    const foldButton = () => {
      foldAll.hidden = !folds.folds.length;
      foldAll.textContent = folds.folds.some((one) => !folds.closed.has(one.line)) ? "Fold all" : "Unfold all";
    };
    on(foldAll, "click", async () => {
      const seenFirst = firstSeen();
      folds.setAll(folds.folds.some((one) => !folds.closed.has(one.line)));
      await toLine(folds.preceding(Math.min(seenFirst, Math.max(1, total))), { share: 0, reset: true });
    });
    const firstSeen = () => {
      const line = [...lines.querySelectorAll(".line")].find((one) => top(one) + one.offsetHeight > log.scrollTop);
      return Number(line?.id.slice(1) ?? 1);
    };

    // Scrolling: load what comes near, and find the place in the parts that are not in the page.
    let scrolling = false;
    const scrolled = guarded(async () => {
      const [first, end] = bounds();
      const begins = log.scrollTop;
      const belowBegins = top(below);
      if (begins + log.clientHeight < top(lines) || begins > belowBegins) {
        const isBelow = begins > belowBegins;
        const share = isBelow ? (begins - belowBegins) / Math.max(1, below.offsetHeight) : begins / Math.max(1, above.offsetHeight);
        const [from, to] = isBelow ? [folds.shown(Math.min(total, (end + 1) * BLOCK)), folds.shown(total)] : [0, folds.shown(first * BLOCK)];
        const block = blockOf(folds.line(Math.max(1, Math.round(from + share * (to - from)))));
        moving++;
        if (await show(around(block))) {
          const there = blocks.get(block) ?? blocks.get(last());
          if (there) log.scrollTop = top(there);
        }
      }
      await fill();
    });
    // Only a person scrolls up; the log itself grows below what one sees.
    let scrolledTo = 0;
    const atEnd = () => log.scrollHeight - log.scrollTop - log.clientHeight < 24 && bounds()[1] >= last();
    on(log, "scroll", () => {
      if (atEnd()) following = !complete;
      else if (log.scrollTop < scrolledTo - 4) following = false;
      scrolledTo = log.scrollTop;
      if (atEnd()) seen = total;
      tell();
      if (scrolling) return;
      scrolling = true;
      requestAnimationFrame(async () => {
        await scrolled();
        scrolling = false;
      });
    });

    // Following: the end of the log, and how many lines came while one read elsewhere.
    const tell = () => {
      const fresh = total - seen;
      news.hidden = following || fresh <= 0;
      news.textContent = `${fresh} new line${fresh === 1 ? "" : "s"} ↓`;
      edge.textContent = !total ? (complete ? "The job printed nothing." : "The job has printed nothing yet.") : complete ? `${total} line${total === 1 ? "" : "s"}.` : "Following the log …";
    };
    // The last two blocks, and before them what a window needs.
    const showEnd = guarded(async (reset) => {
      if (!total) return;
      const end = last();
      const wanted = [previous(end), end].filter((number) => number !== null);
      const done = await show(wanted, { anew: true, reset });
      if (done) toEnd();
      if (done && lines.offsetHeight < log.clientHeight) await fill(0);
      else if (done) trim(), spacers();
      if (done) toEnd();
    });
    const follow = async () => {
      if (!document.hidden) {
        try {
          const state = await (await request("state", { groups: folds.marks.length })).json();
          if (signal.aborted) return;
          const grown = state.total !== total || state.complete !== complete;
          const open = bounds()[1] >= last();
          const ending = state.complete && !complete;
          ({ total, complete } = state);
          folds.update(state);
          // While one watches the end, what has ended well is folded; else only what one has not seen.
          const folded = !ending && folds.settle(following ? 0 : (bounds()[1] + 1) * BLOCK);
          steps();
          if (following) {
            if (grown || folded) await showEnd(folded);
            seen = total;
          } else if (grown && open) await show([bounds()[1]], { anew: true });
          adornAll();
          spacers();
          foldButton();
          tell();
        } catch {
          // The page's notice says that the server does not answer; the next turn tries again.
        }
      }
      if (!complete && !signal.aborted) setTimeout(follow, FOLLOW_MS);
    };
    const goEnd = async () => {
      moving++;
      following = !complete;
      seen = total;
      if (folds.reveal(total, total)) await showEnd(true);
      else await showEnd(false);
      foldButton();
      tell();
    };
    on(news, "click", goEnd);

    // A click on a step in the list of steps goes there. htmx replaces that list, so the links are made anew.
    const steps = () => {
      for (const { number, line } of folds.steps) document.querySelectorAll(`[data-step="${number}"]`).forEach((link) => link.setAttribute("href", `#L${line}`));
    };
    on(document, "htmx:afterSettle", steps);
    on(document, "click", async (event) => {
      const link = event.target.closest?.("[data-step]");
      const step = folds.steps.find(({ number }) => String(number) === link?.dataset.step);
      if (!step || event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      remember(step.line, step.line);
      choose(step.line, step.line);
      const reset = folds.closed.has(step.line);
      folds.set(step.line, false);
      byId("job-log").scrollIntoView({ block: "start" });
      await toLine(step.line, { share: 0, reset });
      byId(`L${step.line}`)?.querySelector(".fold")?.focus({ preventScroll: true });
    });

    // Links to lines: #L120 and #L120-L140. They name the attempt if there may be another one.
    const remember = (first, end) => {
      const several = !complete || Number(byId("log-attempts")?.dataset.latest) > 1;
      history.replaceState(null, "", `${location.pathname}${several ? `?attempt=${attempt}` : ""}#L${first}${end > first ? `-L${end}` : ""}`);
    };
    const fromHash = () => {
      const match = /^#L(\d{1,9})(?:-L(\d{1,9}))?$/.exec(location.hash);
      if (!match) return;
      choose(Number(match[1]), Number(match[2] ?? match[1]));
      log.scrollIntoView({ block: "nearest" });
      toLine(chosen[0], { until: chosen[1] });
    };
    on(log, "click", (event) => {
      const button = event.target.closest(".fold");
      if (button) {
        const line = Number(button.closest(".line").id.slice(1));
        fold(line, !folds.closed.has(line));
        return;
      }
      const link = event.target.closest("a[data-n]");
      if (!link) return;
      event.preventDefault();
      const number = Number(link.dataset.n);
      if (event.shiftKey && chosen[1] > 0) choose(Math.min(chosen[0], number), Math.max(chosen[0], number));
      else choose(number, number);
      remember(...chosen);
      following = false;
      tell();
    });
    on(window, "hashchange", fromHash);

    // Search, on the server, through the whole log.
    const query = byId("log-query");
    const said = byId("log-hits");
    const goHit = (step) => {
      if (!hits.lines.length) return;
      hits.at = (hits.at + step + hits.lines.length) % hits.lines.length;
      const number = hits.lines[hits.at];
      choose(number, number);
      said.textContent = `${hits.at + 1} of ${hits.total}${hits.complete ? "" : "+"}`;
      toLine(number);
    };
    on(byId("log-find"), "submit", async (event) => {
      event.preventDefault();
      const asked = { q: query.value };
      if (byId("log-case").checked) asked.case = "1";
      if (byId("log-regex").checked) asked.regex = "1";
      const same = JSON.stringify(asked) === hits.asked && complete;
      if (same && hits.lines.length) return goHit(1);
      hits = { lines: [], set: new Set(), at: -1 };
      said.textContent = query.value ? "Searching …" : "";
      if (query.value) {
        try {
          const found = await (await request("search", asked)).json();
          hits = { ...found, set: new Set(found.lines), at: -1, asked: JSON.stringify(asked) };
          said.textContent = found.total ? "" : "nothing found";
        } catch (error) {
          said.textContent = error.message;
        }
      }
      byId("log-next").disabled = byId("log-previous").disabled = !hits.lines.length;
      adornAll();
      // Begin behind the place where one is.
      const from = firstSeen();
      hits.at = Math.max(0, hits.lines.findIndex((line) => line >= from)) - 1;
      goHit(1);
    });
    on(byId("log-next"), "click", () => goHit(1));
    on(byId("log-previous"), "click", () => goHit(-1));
    on(query, "keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey && hits.lines.length) {
        event.preventDefault();
        goHit(-1);
      } else if (event.key === "Escape") log.focus();
    });

    const errorButton = byId("log-error");
    on(errorButton, "click", async () => {
      errorButton.disabled = true;
      try {
        if (!errors || !complete) errors = await (await request("search", {})).json();
        const found = errors.lines.find((line) => line > chosen[1]) ?? errors.lines[0];
        if (found) {
          choose(found, found);
          await toLine(found);
        }
        errorButton.textContent = found ? `Next error (${errors.lines.indexOf(found) + 1} of ${errors.total})` : "No error found";
      } catch (error) {
        said.textContent = error.message;
      }
      errorButton.disabled = false;
    });

    const wrap = byId("log-wrap");
    const choice = byId("log-times");
    const apply = () => {
      times = choice.value;
      log.classList.toggle("log-wrapped", wrap.checked);
      log.classList.toggle("log-timed", times !== "off");
      heights.clear();
      adornAll();
      spacers();
      if (following) toEnd();
    };
    wrap.checked = kept.wrap ?? true;
    choice.value = ["relative", "absolute"].includes(kept.times) ? kept.times : "off";
    for (const part of [wrap, choice]) {
      on(part, "change", () => {
        apply();
        keep({ wrap: wrap.checked, times });
      });
    }

    // One key each, unless one types into a field or has switched them off.
    const help = byId("log-shortcuts");
    const keys = byId("log-keys");
    keys.checked = kept.keys ?? true;
    on(keys, "change", () => keep({ keys: keys.checked }));
    on(byId("log-help"), "click", () => help.showModal());
    const changed = (part) => part.dispatchEvent(new Event("change"));
    const shortcuts = {
      "/": () => (query.focus(), query.select()),
      n: () => goHit(1),
      N: () => goHit(-1),
      e: () => errorButton.click(),
      f: goEnd,
      z: () => foldAll.click(),
      t: () => {
        choice.selectedIndex = (choice.selectedIndex + 1) % choice.options.length;
        changed(choice);
      },
      w: () => {
        wrap.checked = !wrap.checked;
        changed(wrap);
      },
      "?": () => help.showModal(),
    };
    on(document, "keydown", (event) => {
      const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea, [contenteditable], dialog");
      if (typing || event.ctrlKey || event.metaKey || event.altKey || !keys.checked || !Object.hasOwn(shortcuts, event.key)) return;
      event.preventDefault();
      shortcuts[event.key]();
    });

    // The server has sent the first blocks as one. Which of their lines are folded is only known here.
    folds.update(JSON.parse(log.dataset.state));
    folds.settle(0);
    const wanted = following || /^#L\d/.test(location.hash) ? 0 : Number(log.dataset.line);
    if (wanted) folds.reveal(wanted, wanted);
    const sent = [...lines.children];
    lines.replaceChildren();
    for (let number = blockOf(Number(log.dataset.first)); sent.length; number++) {
      const text = sent.splice(0, BLOCK).map((line) => line.outerHTML).join("");
      if (complete || (number + 1) * BLOCK < total) cache.set(number, text);
      if (shownIn(number, number + 1)) put(number, text);
    }
    document.querySelectorAll(".log-plain").forEach((part) => part.remove());
    byId("log-tools").hidden = false;
    apply();
    steps();
    foldButton();
    if (/^#L\d/.test(location.hash)) fromHash();
    else if (wanted) {
      choose(wanted, wanted);
      toLine(wanted);
    } else {
      showEnd(!blocks.size);
    }
    tell();
    follow();
    return { attempt: Number(attempt), isFollowed: () => following || (complete && atEnd()) };
  };

  // The page shows the last attempt until one chooses another, so it goes on with the next one.
  let running;
  let live;
  const begin = () => {
    running?.abort();
    running = new AbortController();
    const log = byId("log");
    live = log && start(log, running.signal);
  };
  const attempts = async () => {
    const nav = byId("log-attempts");
    if (!nav) return;
    nav.querySelectorAll("[data-attempt]").forEach((link) => {
      if (Number(link.dataset.attempt) === live?.attempt) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    });
    const isNew = Number(nav.dataset.latest) > (live?.attempt ?? 0);
    if (!isNew || new URLSearchParams(location.search).has("attempt") || (live && !live.isFollowed())) return;
    const answer = await fetch(location.pathname);
    const fresh = answer.ok && new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("job-log");
    if (!fresh || byId("log-attempts") !== nav) return;
    byId("job-log").replaceWith(fresh);
    begin();
  };
  document.addEventListener("htmx:afterSettle", attempts);
  begin();
})();
