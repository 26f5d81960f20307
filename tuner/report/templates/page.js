"use strict";
(async () => {
  const trouble = document.getElementById("trouble");
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const places = [...document.querySelectorAll(".plot")];
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const narrow = matchMedia("(max-width: 720px)");
  let printing = false;
  let closed = []; // parts of the page that are open on paper only
  const ink = () => (dark.matches && !printing ? "#c6cedb" : "#374151");

  async function unpack() {
    const packed = document.getElementById("plotly").textContent.trim();
    const bytes = Uint8Array.from(atob(packed), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    if (!window.Plotly) throw new Error("the drawing library was refused");
  }

  function draw(place) {
    const { data, layout } = figures[place.id];
    layout.font.color = ink();
    layout.title = undefined;
    layout.height = undefined;
    layout.autosize = true;
    layout.margin.t = 14;
    if (data[0].type === "parcoords") Object.assign(layout.margin, { l: 70, t: 48, b: 20 });
    if (narrow.matches) layout.dragmode = false;
    const how = { responsive: true, displaylogo: false, displayModeBar: narrow.matches ? false : "hover" };
    return Plotly.newPlot(place, data, layout, how);
  }

  const recolour = () => places.forEach((place) => Plotly.relayout(place, { "font.color": ink() }));

  try {
    if (places.length) await unpack();
    for (const place of places) await draw(place);
    dark.addEventListener("change", recolour);
    addEventListener("beforeprint", () => {
      printing = true;
      closed = [...document.querySelectorAll("details:not([open])")];
      closed.forEach((one) => { one.open = true; });
      places.forEach((place) => Plotly.relayout(place, { "font.color": ink(), width: place.closest(".full") ? 660 : 320, height: 290 }));
    });
    addEventListener("afterprint", () => {
      printing = false;
      closed.forEach((one) => { one.open = false; });
      places.forEach((place) => Plotly.relayout(place, { "font.color": ink(), width: null, height: null, autosize: true }));
    });
    document.body.dataset.drawn = places.length;
  } catch (error) {
    trouble.textContent = "The plots could not be drawn in this browser (" + error.message + "); what they show is said below each.";
  }
})();
