// Which lines of a log are folded away: the steps and the groups in them. Lines are numbered from 1.
"use strict";

class LogFolds {
  steps = [];
  marks = []; // the lines at which groups begin, and negative ones at which they end
  folds = []; // {line, end, step?, open}, by their lines; `open` if nothing says that it has ended
  closed = new Set(); // the lines of folds that are closed
  touched = new Set(); // those that a person has opened or closed
  hidden = []; // [first, last] of each run of hidden lines
  before = []; // how many lines are hidden before each of those runs
  #byLine = new Map();

  // What the server says about the log: all steps, and the groups that it has not told before.
  update(state) {
    this.steps = state.steps ?? [];
    this.marks.push(...(state.groups ?? []));
    this.total = state.total ?? 0;
    this.complete = state.complete ?? true;
    const after = this.complete ? this.total : Infinity;
    const folds = this.steps.map((step, place) => {
      const end = place + 1 < this.steps.length ? this.steps[place + 1].line - 1 : after;
      return { line: step.line, end, step, open: end === Infinity };
    });
    // A group ends with its step at the latest, or where the next group begins.
    let place = 0;
    this.marks.forEach((mark, index) => {
      if (mark < 0) return;
      while (place < this.steps.length && this.steps[place].line <= mark) place++;
      const limit = place < this.steps.length ? this.steps[place].line - 1 : after;
      const next = this.marks[index + 1];
      const ended = next === undefined ? Infinity : next < 0 ? -next : next - 1;
      folds.push({ line: mark, end: Math.min(limit, ended), open: ended > limit || ended === Infinity });
    });
    this.folds = folds.sort((one, other) => one.line - other.line);
    this.#byLine = new Map(this.folds.map((fold) => [fold.line, fold]));
    this.#measure();
  }

  // Steps that succeeded and groups that ended are folded, but not the only step of a job.
  isBoring(fold) {
    if (!fold.step) return !fold.open;
    const last = fold.step === this.steps.at(-1);
    return fold.step.state === "completed" && (!last || (this.complete && this.steps.length > 1));
  }

  // Close what is boring and beyond a line. Returns whether a fold was closed.
  settle(beyond) {
    const closing = this.folds.filter(
      (fold) => fold.line > beyond && !this.touched.has(fold.line) && !this.closed.has(fold.line) && this.isBoring(fold),
    );
    closing.forEach((fold) => this.closed.add(fold.line));
    if (closing.length) this.#measure();
    return closing.length > 0;
  }

  at(line) {
    return this.#byLine.get(line);
  }

  set(line, closed) {
    this.touched.add(line);
    if (closed) this.closed.add(line);
    else this.closed.delete(line);
    this.#measure();
  }

  setAll(closed) {
    this.folds.forEach((fold) => this.touched.add(fold.line));
    this.closed = new Set(closed ? this.folds.map((fold) => fold.line) : []);
    this.#measure();
  }

  // Open what hides one of these lines. Returns whether that was needed.
  reveal(first, last) {
    const holding = this.folds.filter((fold) => fold.line < last && fold.end >= first && this.closed.has(fold.line));
    holding.forEach((fold) => this.set(fold.line, false));
    return holding.length > 0;
  }

  #measure() {
    this.hidden = [];
    for (const fold of this.folds) {
      const [first, last] = [fold.line + 1, Math.min(fold.end, this.total)];
      if (!this.closed.has(fold.line) || first > last) continue;
      const former = this.hidden.at(-1);
      if (former && first <= former[1]) former[1] = Math.max(former[1], last);
      else this.hidden.push([first, last]);
    }
    let sum = 0;
    this.before = this.hidden.map(([first, last]) => (sum += last - first + 1) - (last - first + 1));
  }

  // The place of the last hidden run that begins at or before the line; -1 for none.
  #run(line) {
    let [low, high] = [0, this.hidden.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.hidden[middle][0] <= line) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  isHidden(line) {
    const place = this.#run(line);
    return place >= 0 && line <= this.hidden[place][1];
  }

  // How many of the lines up to this one are shown.
  shown(line) {
    const place = this.#run(line);
    if (place < 0) return line;
    return line - this.before[place] - (Math.min(line, this.hidden[place][1]) - this.hidden[place][0] + 1);
  }

  // The line that is the n-th shown one.
  line(n) {
    let [low, high] = [n, this.total];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.shown(middle) >= n) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  // The next shown line from this one on, and the last one up to it.
  following(line) {
    return this.isHidden(line) ? this.hidden[this.#run(line)][1] + 1 : line;
  }

  preceding(line) {
    return this.isHidden(line) ? this.hidden[this.#run(line)][0] - 1 : line;
  }
}
