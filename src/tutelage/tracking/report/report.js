"use strict";
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const plots = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const coarse = matchMedia("(pointer: coarse)").matches;
  const drawn = new Set();

  // Colours of axes and text come from the page's style, so that a plot follows the theme.
  const themed = (layout) => {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const axis = {
      gridcolor: colour("--grid"), linecolor: colour("--line"), tickcolor: colour("--line"), fixedrange: coarse, automargin: true,
    };
    return {
      ...layout,
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: colour("--muted") },
      hoverlabel: { bgcolor: colour("--soft"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 } },
      dragmode: coarse ? false : "zoom",
      xaxis: { ...layout.xaxis, ...axis },
      yaxis: { ...layout.yaxis, ...axis },
    };
  };
  const draw = (place) => {
    const figure = figures[place.id];
    drawn.add(place);
    Plotly.react(place, figure.data, themed(figure.layout), { responsive: true, displayModeBar: false });
  };

  // A plot is drawn when it comes near the screen; those in folded parts wait until they are opened.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting && !drawn.has(entry.target)) {
        watcher.unobserve(entry.target);
        draw(entry.target);
      }
    }
  }, { rootMargin: "600px" });
  plots.forEach((place) => watcher.observe(place));
  dark.addEventListener("change", () => drawn.forEach(draw));
  addEventListener("beforeprint", () => {
    document.querySelectorAll("details").forEach((fold) => { fold.open = true; });
    plots.forEach(draw);
  });

  const choose = (step) => {
    document.querySelectorAll(".tabs button").forEach((button) => {
      button.setAttribute("aria-pressed", String(button.dataset.step === step));
    });
    document.querySelectorAll(".pane").forEach((pane) => { pane.hidden = pane.dataset.step !== step; });
  };
  document.querySelectorAll(".tabs button").forEach((button) => {
    button.addEventListener("click", () => choose(button.dataset.step));
  });
  const first = document.querySelector('.tabs button[aria-pressed="true"]');
  if (first) choose(first.dataset.step);

  const tip = document.getElementById("tip");
  let marked = null;
  const line = (name, value) => {
    const row = document.createElement("div");
    for (const content of [name, value]) {
      const cell = document.createElement("span");
      cell.textContent = content;
      row.append(cell);
    }
    return row;
  };
  const hide = () => {
    tip.hidden = true;
    if (marked) marked.classList.remove("on");
    marked = null;
  };
  const show = (token) => {
    hide();
    const [student, teacher, divergence, weight, author, id] = token.dataset.t.split("|");
    const piece = document.createElement("code");
    piece.textContent = token.textContent;
    const rows = [
      ["student log-prob", student], ["teacher log-prob", teacher], ["reverse KL", divergence], ["weight", weight],
    ].filter(([, value]) => value !== "");
    tip.replaceChildren(piece, ...rows.map(([name, value]) => line(name, value)), line("written by", author), line("token id", id));
    tip.hidden = false;
    marked = token;
    token.classList.add("on");
    const box = token.getClientRects()[0] ?? token.getBoundingClientRect();
    const left = Math.min(box.left, document.documentElement.clientWidth - tip.offsetWidth - 8);
    const above = box.top > tip.offsetHeight + 12;
    tip.style.left = `${Math.max(left, 8) + scrollX}px`;
    tip.style.top = `${(above ? box.top - tip.offsetHeight - 6 : box.bottom + 6) + scrollY}px`;
  };
  document.addEventListener("pointerover", (event) => {
    const token = event.target.closest?.(".t");
    if (token) show(token);
    else if (event.pointerType === "mouse") hide();
  });
  document.addEventListener("click", (event) => {
    const token = event.target.closest?.(".t");
    if (token) show(token);
    else hide();
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") hide(); });
})();
