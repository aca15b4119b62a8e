"use strict";
// The page works without this script. It makes tables sortable and the map interactive.

function valueOf(row, column) {
  const text = row.cells[column].textContent.trim();
  const number = Number.parseFloat(text.replace("−", "-").replaceAll(",", ""));
  return { text, number };
}

function compare(first, second, numbers, falling) {
  // Missing values come last in either order.
  const gone = (value) => value.text === "–" || value.text === "";
  if (gone(first) || gone(second)) return gone(first) - gone(second);
  const words = first.text.localeCompare(second.text, undefined, { numeric: true });
  const order = numbers ? first.number - second.number : words;
  return falling ? -order : order;
}

function sortBy(table, column) {
  const heads = [...table.tHead.rows[0].cells];
  const falling = heads[column].getAttribute("aria-sort") === "ascending";
  heads.forEach((head) => head.removeAttribute("aria-sort"));
  heads[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const numbers = heads[column].classList.contains("number");
  rows.sort((a, b) => compare(valueOf(a, column), valueOf(b, column), numbers, falling));
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    button.addEventListener("click", () => sortBy(table, column));
    head.append(button);
  });
}

function speak(map) {
  const points = [...map.querySelectorAll(".plane circle")];
  const told = map.querySelector(".told");
  const tile = map.querySelector(".tile");
  const side = Number(map.dataset.tile);
  const columns = Number(map.dataset.columns);
  let current = -1;

  function tell(number) {
    if (current >= 0) points[current].classList.remove("current");
    current = number;
    const point = points[number];
    point.classList.add("current");
    told.textContent = point.querySelector("title").textContent;
    if (!tile) return;
    tile.hidden = false;
    const x = (number % columns) * side * 2;
    const y = Math.floor(number / columns) * side * 2;
    tile.style.backgroundPosition = `-${x}px -${y}px`;
  }

  const plane = map.querySelector(".plane svg");
  plane.addEventListener("pointermove", (event) => {
    const box = plane.getBoundingClientRect();
    const scale = plane.viewBox.baseVal.width / box.width;
    const x = (event.clientX - box.left) * scale;
    const y = (event.clientY - box.top) * scale;
    let nearest = -1;
    let least = 20 * 20;
    points.forEach((point, number) => {
      const away = (point.cx.baseVal.value - x) ** 2 + (point.cy.baseVal.value - y) ** 2;
      if (away < least) [nearest, least] = [number, away];
    });
    if (nearest >= 0 && nearest !== current) tell(nearest);
  });
  for (const [name, step] of [["next-one", 1], ["previous", -1]]) {
    map.querySelector(`button.${name}`).addEventListener("click", () => {
      const wrong = map.querySelector("input").checked;
      for (let moved = 1; moved <= points.length; moved += 1) {
        const from = current < 0 && step < 0 ? 0 : current;
        const number = (from + step * moved + 2 * points.length) % points.length;
        if (!wrong || points[number].classList.contains("wrong")) return tell(number);
      }
      return undefined;
    });
  }
  map.querySelector(".steps").hidden = false;
  lightUp(map, points);
}

// A class of the legend can be chosen: its dots stay, the others fade.
function lightUp(map, points) {
  const entries = [...map.querySelectorAll(".legend li")];
  for (const entry of entries) {
    const button = document.createElement("button");
    button.type = "button";
    button.setAttribute("aria-pressed", "false");
    button.append(...entry.childNodes);
    entry.append(button);
    button.addEventListener("click", () => {
      const chosen = button.getAttribute("aria-pressed") === "false" ? entry.dataset.class : null;
      for (const each of entries) {
        each.firstChild.setAttribute("aria-pressed", String(each.dataset.class === chosen));
      }
      for (const point of points) {
        point.classList.toggle("faded", chosen !== null && point.dataset.class !== chosen);
      }
    });
  }
}

document.querySelectorAll(".map").forEach(speak);
