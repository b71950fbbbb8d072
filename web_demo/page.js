/** What the page says: status, errors, and the two tables. */

/** @typedef {import('./postprocess.js').Face} Face */

const MOST_ROWS = 20; // of the table of faces

/**
 * @param {string} id
 * @returns {any} the element; index.html has it
 */
export const element = (id) => document.getElementById(id);

/** @param {unknown} error shown in words until the next start of something */
export function showError(error) {
  const place = element('error');
  place.textContent = error instanceof Error ? error.message : String(error);
  place.hidden = false;
}

export function clearError() {
  element('error').hidden = true;
}

/** @param {string} text */
export function say(text) {
  const place = element('status');
  if (place.textContent !== text) place.textContent = text; // a screen reader speaks each change
}

/** @param {number} faces */
export const inWords = (faces) => `${faces || 'No'} face${faces === 1 ? '' : 's'}`;

/** @param {HTMLTableElement} table @param {string[][]} rows @param {boolean} headed the first cell is a heading */
function fill(table, rows, headed) {
  const made = rows.map((cells) => {
    const row = document.createElement('tr');
    cells.forEach((text, i) => {
      const heading = headed && i === 0;
      const cell = document.createElement(heading ? 'th' : 'td');
      if (heading) cell.setAttribute('scope', 'row');
      cell.textContent = text;
      row.append(cell);
    });
    return row;
  });
  table.tBodies[0].replaceChildren(...made);
  table.hidden = rows.length === 0;
}

/** @param {readonly Face[]} faces */
export function fillFaces(faces) {
  const rows = faces
    .slice(0, MOST_ROWS)
    .map(({ score, box: [x1, y1, x2, y2] }) => [
      score.toFixed(2),
      `${Math.round(x1)}, ${Math.round(y1)}`,
      `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)}`,
    ]);
  if (faces.length > MOST_ROWS) rows.push([`and ${faces.length - MOST_ROWS} more`, '', '']);
  fill(element('faces'), rows, false);
}

/**
 * @param {Record<string, number>} milliseconds of each stage
 * @param {number} total from the picture to its faces, with the way to the worker and back
 * @param {number} rate pictures in the last second, 0 where that says nothing
 */
export function fillTimes(milliseconds, total, rate) {
  const rows = Object.entries(milliseconds).map(([stage, time]) => [stage, time.toFixed(1)]);
  rows.push(['from picture to faces', total.toFixed(1)]);
  if (rate) rows.push(['pictures per second', String(rate)]);
  fill(element('times'), rows, true);
}
