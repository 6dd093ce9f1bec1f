// @ts-check
/* What the page asks the server for. */

const token = new URLSearchParams(location.search).get("token") ?? "";

/* The address of something, for a link or a script: the token is in it. */
export const addressOf = (path) => `${path}${path.includes("?") ? "&" : "?"}token=${encodeURIComponent(token)}`;

async function answerOf(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { ...options, headers: { "X-Gbsep-Token": token, ...options.headers } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new Error("gbsep studio is not running any more: start it again");
  }
  if (!answer.ok) throw Object.assign(new Error((await answer.text()).trim()), { status: answer.status });
  return answer;
}

export async function ask(path, options) {
  return (await answerOf(path, options)).json();
}

export async function bytes(path, options) {
  return (await answerOf(path, options)).arrayBuffer();
}

export function post(path, body, how = {}) {
  return ask(path, { ...how, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
}

/* A file to the server, told how far it is; a request that can do that. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("PUT", `/api/uploads?name=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-Gbsep-Token", token);
    request.upload.onprogress = ({ loaded, total }) => progress(loaded / Math.max(1, total));
    request.onload = () => (request.status === 200 ? resolve(JSON.parse(request.responseText)) : reject(new Error(request.responseText.trim())));
    request.onerror = () => reject(new Error(`${file.name} could not be sent`));
    request.send(file);
  });
}
