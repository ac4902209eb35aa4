// The canvas, and all that the page remembers: the server keeps nothing between two questions.
// Run once with the component's `element`, `props` and `trigger`.
const MAX_UPLOAD = __MAX_UPLOAD__; // bytes, as the server has it
const SIDE = 768; // of the canvas's pixels, whatever its size on the screen
const SECONDS_BETWEEN_CALLS = 3;
const KEPT = 'drawing'; // in the tab: Gradio loads the page again when its server comes back
const find = (selector) => element.querySelector(selector);
const paper = find('canvas');
const pen = paper.getContext('2d');
const brushes = [...element.querySelectorAll('.brush')];
let items = []; // strokes {width, points} and uploads {file, picture}, in the order they came
let stroke = null; // the one being drawn
let width = 12;
let question = null; // what was last asked: {sketch}, {photo} or {}
let started = null; // which start of the server answered last

function trace(item) {
  const [first, ...rest] = item.points;
  pen.strokeStyle = pen.fillStyle = '#111';
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  pen.arc(first.x, first.y, (item.width * first.press) / 2, 0, 2 * Math.PI);
  pen.fill();
  let last = first;
  for (const point of rest) {
    pen.lineWidth = item.width * point.press;
    pen.beginPath();
    pen.moveTo(last.x, last.y);
    pen.lineTo(point.x, point.y);
    pen.stroke();
    last = point;
  }
}

function lay(picture) {
  const scale = Math.min(SIDE / picture.naturalWidth, SIDE / picture.naturalHeight);
  const [w, h] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
  pen.drawImage(picture, (SIDE - w) / 2, (SIDE - h) / 2, w, h);
}

function paint() {
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, SIDE, SIDE);
  for (const item of [...items, ...(stroke ? [stroke] : [])]) {
    if (item.points) trace(item);
    else if (item.picture) lay(item.picture);
  }
  const upload = items.findLast((item) => item.file);
  find('.hint').hidden = items.length > 0 || stroke !== null;
  find('.loaded').hidden = !upload || upload.picture !== null;
  find('.loaded').textContent = upload ? upload.name : '';
  find('.undo').disabled = find('.clear').disabled = items.length === 0;
}

function ask(what) {
  question = what;
  props.value = JSON.stringify(what);
  setTimeout(() => trigger('ask'), 0); // when the component has its new value
}

function keep() {
  const kept = items.map((item) => ({ ...item, picture: undefined }));
  try {
    sessionStorage.setItem(KEPT, JSON.stringify(kept));
  } catch {
    sessionStorage.removeItem(KEPT); // an upload too large to be kept
  }
}

function askSketch() {
  paint();
  keep();
  say('');
  // A file alone goes as it is: the answer is then that of the same file elsewhere.
  const alone = items.length === 1 && items[0].file;
  ask(items.length === 0 ? {} : { sketch: alone || paper.toDataURL('image/png') });
}

function say(text) {
  find('.alert').textContent = text;
  find('.alert').hidden = !text;
}

// Drawing ------------------------------------------------------------------------------------

function place(event) {
  const box = paper.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * SIDE) / box.width,
    y: ((event.clientY - box.top) * SIDE) / box.height,
    press: event.pointerType === 'pen' && event.pressure ? 0.4 + 1.2 * event.pressure : 1,
  };
}

paper.addEventListener('pointerdown', (event) => {
  if (stroke || event.button !== 0) return; // a second finger, the right button
  event.preventDefault();
  paper.setPointerCapture(event.pointerId);
  stroke = { width, points: [place(event)], pointer: event.pointerId };
  paint();
});
paper.addEventListener('pointermove', (event) => {
  if (!stroke || event.pointerId !== stroke.pointer) return;
  const all = event.getCoalescedEvents ? event.getCoalescedEvents() : [];
  stroke.points.push(...(all.length ? all : [event]).map(place));
  paint();
});
for (const name of ['pointerup', 'pointercancel']) {
  paper.addEventListener(name, (event) => {
    if (!stroke || event.pointerId !== stroke.pointer) return;
    items.push(stroke);
    stroke = null;
    askSketch();
  });
}

function choose(button) {
  width = Number(button.dataset.width);
  for (const other of brushes) other.setAttribute('aria-checked', other === button);
}
for (const button of brushes) button.addEventListener('click', () => choose(button));
choose(brushes[1]);

function undo() {
  if (items.pop()) askSketch();
}
find('.undo').addEventListener('click', undo);
find('.clear').addEventListener('click', () => {
  items = [];
  askSketch();
});
document.addEventListener('keydown', (event) => {
  const isTyping = event.target.closest && event.target.closest('input, textarea');
  if (!isTyping && (event.ctrlKey || event.metaKey) && event.key === 'z') {
    event.preventDefault();
    undo();
  }
});

// Uploads ------------------------------------------------------------------------------------

function show(data, done) {
  const picture = new Image();
  picture.onload = () => done(picture);
  picture.onerror = () => done(null); // the server reads more formats, and says why if it cannot
  picture.src = data;
}

function read(file, done) {
  const reader = new FileReader();
  reader.onload = () => done(reader.result);
  reader.onerror = () => say(`${file.name} cannot be read; choose it again.`);
  reader.readAsDataURL(file);
}

function upload(file) {
  if (file.size > MAX_UPLOAD) {
    const size = `${(file.size / 1e6).toFixed(1)} MB, expected at most ${MAX_UPLOAD / 1e6} MB`;
    say(`${file.name} has ${size}; save it smaller.`);
    return;
  }
  read(file, (data) =>
    show(data, (picture) => {
      items = [{ file: data, name: file.name, picture }];
      askSketch();
    }),
  );
}
find('input').addEventListener('change', (event) => {
  if (event.target.files[0]) upload(event.target.files[0]);
  event.target.value = ''; // so that the same file can be chosen again
});
paper.addEventListener('dragover', (event) => event.preventDefault());
paper.addEventListener('drop', (event) => {
  event.preventDefault();
  if (event.dataTransfer.files[0]) upload(event.dataTransfer.files[0]);
});
document.addEventListener('paste', (event) => {
  if (event.clipboardData.files[0]) upload(event.clipboardData.files[0]);
});

// Results ------------------------------------------------------------------------------------

document.addEventListener('click', (event) => {
  const hit = event.target.closest && event.target.closest('[data-photo]');
  if (hit) ask({ photo: Number(hit.dataset.photo) });
  else if (event.target.closest && event.target.closest('.back-to-drawing')) askSketch();
});

// The server: gone, back, started anew ---------------------------------------------------------

async function call() {
  let now = null;
  try {
    const answer = await fetch('api/state', { cache: 'no-store' });
    if (answer.ok) now = (await answer.json()).started;
  } catch {}
  const gone = document.querySelector('.server-gone');
  if (now === null) {
    if (gone) gone.hidden = false;
    started = ''; // whoever answers next has not heard our question
  } else {
    if (gone) gone.hidden = true;
    if (started !== null && started !== now && question) ask(question);
    started = now;
  }
  setTimeout(call, 1000 * SECONDS_BETWEEN_CALLS);
}

// The beginning: what this tab held before, or nothing -----------------------------------------

function begin() {
  try {
    items = JSON.parse(sessionStorage.getItem(KEPT)) || [];
  } catch {}
  const uploads = items.filter((item) => item.file);
  let missing = uploads.length;
  if (missing === 0) askSketch();
  for (const item of uploads) {
    item.picture = null;
    show(item.file, (picture) => {
      item.picture = picture;
      if (--missing === 0) askSketch();
    });
  }
}
setTimeout(begin, 100); // a value that is set while Gradio takes the component in would be lost
call();
