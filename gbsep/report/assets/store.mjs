// @ts-check
/* Everything large comes by name: from this file where it is in it, else from a script beside it. A script, because
   that is all a page opened from a disk may read: fetch() refuses file: addresses. */

export function createStore(folder, query) {
  const waiting = new Map();

  globalThis.gbsepAsset = (id, text) => {
    waiting.get(id)?.resolve(text);
    waiting.delete(id);
  };

  /* Why the server gave no script. */
  async function reasonOf(address) {
    const answer = await fetch(address).catch(() => null);
    return answer ? answer.text() : "gbsep review is not running any more: start it again";
  }

  function fetchBeside(id) {
    if (waiting.has(id)) return waiting.get(id).promise;
    const one = {};
    one.promise = new Promise((resolve, reject) => Object.assign(one, { resolve, reject }));
    waiting.set(id, one);
    const script = document.createElement("script");
    script.nonce = document.querySelector("script[nonce]").nonce;
    script.src = `${folder}${id}.js${query}`;
    script.onload = () => script.remove();
    script.onerror = async () => {
      script.remove();
      waiting.delete(id);
      one.reject(new Error(query ? await reasonOf(script.src) : `${folder}${id}.js is missing; keep the folder ${folder} beside this file`));
    };
    document.head.append(script);
    return one.promise;
  }

  const inline = new Map();
  for (const element of document.querySelectorAll("script[data-asset]")) {
    inline.set(element.dataset.asset, element.textContent);
    element.remove();
  }

  /* The bytes of that name. */
  return async function load(id) {
    const text = inline.get(id) ?? (await fetchBeside(id));
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  };
}
