// QR codes of versions 1 and 2, level L, bytes, as ISO/IEC 18004 has them; the mask is the one that OpenCV's encoder takes.
const QR = (() => {
  const exp = new Uint8Array(512), log = new Uint8Array(256);
  for (let i = 0, x = 1; i < 255; i++, x = x << 1 ^ (x & 128 ? 0x11d : 0)) { exp[i] = exp[i + 255] = x; log[x] = i; }
  const multiply = (a, b) => a && b ? exp[log[a] + log[b]] : 0;
  const kinds = [{ side: 21, data: 19, check: 7 }, { side: 25, data: 34, check: 10 }];

  function words(text, kind) {
    const bits = [0, 1, 0, 0];
    const push = (value, count) => { for (let i = count - 1; i >= 0; i--) bits.push(value >> i & 1); };
    push(text.length, 8);
    for (const letter of text) push(letter.charCodeAt(0), 8);
    push(0, Math.min(4, 8 * kind.data - bits.length));
    while (bits.length % 8) bits.push(0);
    const found = [];
    for (let i = 0; i < bits.length; i += 8) found.push(bits.slice(i, i + 8).reduce((a, b) => 2 * a + b));
    for (let i = 0; found.length < kind.data; i++) found.push(i % 2 ? 0x11 : 0xec);
    return found;
  }

  function checked(data, count) {
    let generator = [1];
    for (let i = 0; i < count; i++) {
      const next = [...generator, 0];
      generator.forEach((value, k) => { next[k + 1] ^= multiply(value, exp[i]); });
      generator = next;
    }
    const rest = [...data, ...new Array(count).fill(0)];
    for (let i = 0; i < data.length; i++) {
      const lead = rest[i];
      generator.forEach((value, k) => { rest[i + k] ^= multiply(value, lead); });
    }
    return [...data, ...rest.slice(data.length)];
  }

  const masks = [
    (r, c) => (r + c) % 2, r => r % 2, (r, c) => c % 3, (r, c) => (r + c) % 3,
    (r, c) => ((r >> 1) + Math.floor(c / 3)) % 2, (r, c) => r * c % 2 + r * c % 3,
    (r, c) => (r * c % 2 + r * c % 3) % 2, (r, c) => ((r + c) % 2 + r * c % 3) % 2,
  ];

  function frame(side) {  // finders, timing, alignment: 1 dark, 0 light; null elsewhere, and "f" where the format goes
    const at = Array.from({ length: side }, () => new Array(side).fill(null));
    const put = (r, c, value) => { if (r >= 0 && c >= 0 && r < side && c < side) at[r][c] = value; };
    for (const [r0, c0] of [[3, 3], [3, side - 4], [side - 4, 3]])
      for (let r = -4; r <= 4; r++) for (let c = -4; c <= 4; c++) {
        const ring = Math.max(Math.abs(r), Math.abs(c));
        put(r0 + r, c0 + c, ring === 4 || ring === 2 ? 0 : 1);
      }
    for (let i = 8; i < side - 8; i++) at[6][i] = at[i][6] = 1 - i % 2;
    if (side === 25)
      for (let r = -2; r <= 2; r++) for (let c = -2; c <= 2; c++)
        put(18 + r, 18 + c, Math.max(Math.abs(r), Math.abs(c)) === 1 ? 0 : 1);
    places(side).flat().forEach(([r, c]) => { at[r][c] = "f"; });
    at[side - 8][8] = 1;
    return at;
  }

  function places(side) {  // of the fifteen bits of the format, the highest first, twice
    const one = [], other = [];
    for (let i = 0; i < 15; i++) {
      one.push(i < 6 ? [8, i] : i < 8 ? [8, i + 1] : i === 8 ? [7, 8] : [14 - i, 8]);
      other.push(i < 7 ? [side - 1 - i, 8] : [8, side - 15 + i]);
    }
    return [one, other];
  }

  function format(mask) {
    const value = 1 << 3 | mask;  // level L
    let rest = value << 10;
    for (let i = 14; i >= 10; i--) if (rest >> i & 1) rest ^= 0x537 << i - 10;
    return (value << 10 | rest) ^ 0x5412;
  }

  function penalty(at) {
    const side = at.length, across = at[0].map((_, c) => at.map(row => row[c]));
    let total = 0, dark = 0;
    for (const lines of [at, across]) for (const line of lines) {
      let run = 1;
      for (let i = 1; i < side; i++) {
        if (line[i] === line[i - 1]) run++;
        if (line[i] !== line[i - 1] || i + 1 === side) { if (run >= 5) total += run - 2; run = 1; }
      }
      const text = line.join("");
      for (let i = 0; i + 11 <= side; i++)
        if (["00001011101", "10111010000"].includes(text.slice(i, i + 11))) total += 40;
    }
    for (let r = 0; r < side; r++) for (let c = 0; c < side; c++) {
      dark += at[r][c];
      if (r + 1 < side && c + 1 < side && at[r][c] === at[r][c + 1] && at[r][c] === at[r + 1][c]
          && at[r][c] === at[r + 1][c + 1]) total += 3;
    }
    const percent = Math.floor(100 * dark / (side * side));
    return total + 10 * Math.floor(Math.min(Math.abs(percent - 45), Math.abs(percent - 55)) / 5);
  }

  return function modules(text) {  // rows of 1 (dark) and 0
    const kind = kinds.find(k => text.length + 2 <= k.data);
    const bits = checked(words(text, kind), kind.check).flatMap(w => [7, 6, 5, 4, 3, 2, 1, 0].map(i => w >> i & 1));
    const blank = frame(kind.side), path = [];
    for (let c = kind.side - 1, up = true; c > 0; c -= 2, up = !up) {
      if (c === 6) c--;
      for (let i = 0; i < kind.side; i++) for (const column of [c, c - 1]) {
        const row = up ? kind.side - 1 - i : i;
        if (blank[row][column] === null) path.push([row, column]);
      }
    }
    let best = null, least = Infinity;
    masks.forEach((mask, number) => {
      const at = blank.map(row => [...row]), told = format(number);
      path.forEach(([r, c], i) => { at[r][c] = (bits[i] || 0) ^ (mask(r, c) === 0 ? 1 : 0); });
      if (kind.side === 25) at[16][0] = at[16][1] = 1;  // bits that mean nothing, as OpenCV leaves them
      for (const where of places(kind.side)) where.forEach(([r, c], i) => { at[r][c] = told >> 14 - i & 1; });
      const value = penalty(at);
      if (value < least) { least = value; best = at; }
    });
    return best;
  };
})();
