// Draws the learning curves so that one can hover and zoom, in place of the picture, which stays without scripts.
"use strict";
const MAX_CURVES = 500;  // more are a picture only
const plot = document.getElementById("plot");
let chart = null;

function ink(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

function styleOf(curve, best) {
  if (curve.trial === best) return { stroke: ink("--accent"), width: 2.4 };
  if (curve.control === null) return { stroke: ink("--trial"), width: 0.8 };
  return { stroke: ink("--ink"), width: 1.4, dash: { mixup: [6, 3], plain: [2, 3] }[curve.control] };
}

function nameOf(curve, best) {
  const role = curve.trial === best ? ", the best" : curve.control === null ? "" : `, ${curve.control}`;
  return `trial ${curve.trial}${role} (${curve.state.replace("_", " ")})`;
}

function tip(curves, best) {
  const box = document.createElement("div");
  box.className = "tip";
  return { hooks: {
    init: (chart) => chart.over.append(box),
    setCursor: (chart) => {
      const found = chart.series.findIndex((series, index) => index > 0 && series._focus);
      const { idx, left, top } = chart.cursor;
      const value = found > 0 && idx !== null ? chart.data[found][idx] : null;
      box.hidden = value === null || value === undefined;
      if (box.hidden) return;
      box.textContent = `${nameOf(curves[found - 1], best)}: ${value.toFixed(4)} at epoch ${chart.data[0][idx]}`;
      box.style.left = `${Math.min(left + 12, chart.over.clientWidth - box.offsetWidth)}px`;
      box.style.top = `${Math.max(0, top - 32)}px`;
    },
  } };
}

function rungs(epochs) {
  return { hooks: { drawClear: (chart) => {
    const { ctx, bbox } = chart;
    ctx.save();
    ctx.strokeStyle = ink("--muted");
    ctx.setLineDash([2, 4]);
    for (const epoch of epochs.filter((epoch) => epoch >= chart.scales.x.min && epoch <= chart.scales.x.max)) {
      const x = chart.valToPos(epoch, "x", true);
      ctx.beginPath(); ctx.moveTo(x, bbox.top); ctx.lineTo(x, bbox.top + bbox.height); ctx.stroke();
    }
    ctx.restore();
  } } };
}

function draw(answer, best) {
  const curves = answer.curves.filter((curve) => curve.epochs.length > 0);
  const rank = (curve) => (curve.trial === best ? 2 : curve.control === null ? 0 : 1);
  curves.sort((one, other) => rank(one) - rank(other));  // the ones that matter are drawn last
  const last = Math.max(...curves.map((curve) => curve.epochs.at(-1)));
  const epochs = Array.from({ length: last }, (_, index) => index + 1);
  const columns = curves.map((curve) => {
    const column = new Array(last).fill(null);
    curve.epochs.forEach((epoch, index) => { column[epoch - 1] = curve.val_accuracy[index]; });
    return column;
  });
  const axis = { stroke: ink("--muted"), grid: { stroke: ink("--faint"), width: 0.6 }, ticks: { show: false },
    font: `12px ${ink("--sans")}` };
  const size = { width: plot.clientWidth, height: 352 };
  const zoom = chart && { x: { ...chart.scales.x }, y: { ...chart.scales.y }, all: chart.isWhole };
  chart?.destroy();
  chart = new uPlot({
    ...size,
    scales: { x: { time: false } },
    axes: [{ ...axis, label: "epoch", labelFont: axis.font, labelSize: 14, size: 30 }, axis],
    legend: { show: false },
    focus: { alpha: 0.45 },
    cursor: { focus: { prox: 24 }, drag: { x: true, y: true, uni: 24 }, points: { show: false } },
    series: [{}, ...curves.map((curve) => ({ ...styleOf(curve, best), spanGaps: true, points: { show: false } }))],
    plugins: [rungs(answer.rungs), tip(curves, best)],
    hooks: { setSelect: [(chart) => { chart.isWhole = false; }] },
  }, [epochs, ...columns], plot);
  chart.isWhole = true;
  chart.over.addEventListener("dblclick", () => { chart.isWhole = true; });
  if (zoom && !zoom.all) {
    chart.setScale("x", zoom.x);
    chart.setScale("y", zoom.y);
    chart.isWhole = false;
  }
}

async function refreshCurves() {
  const response = await fetch(`${plot.dataset.curves}?limit=${MAX_CURVES}`);
  if (!response.ok) return;
  const answer = await response.json();
  if (answer.total > MAX_CURVES || !answer.curves.some((curve) => curve.epochs.length > 0)) return;
  document.documentElement.classList.add("plotted");
  const figure = document.querySelector("#curves figure");
  plot.setAttribute("role", "img");
  plot.setAttribute("aria-label", figure?.getAttribute("aria-label") ?? "Learning curves");
  const best = figure?.dataset.best;
  draw(answer, best === undefined || best === "" ? null : Number(best));
}

if (plot && "uPlot" in window) {
  refreshCurves().catch(() => {});
  document.addEventListener("refreshed", () => refreshCurves().catch(() => {}));
  addEventListener("resize", () => chart?.setSize({ width: plot.clientWidth, height: 352 }));
}
