// Runs a Python file in Pyodide: node pyodide_node.mjs PYODIDE.mjs FILE URL URL FOLDER...
// The folders are where its imports come from, each as it is on this machine.
import path from "node:path";
import { pathToFileURL } from "node:url";

const [module, file, url, odd, ...folders] = process.argv.slice(2);
const { loadPyodide } = await import(pathToFileURL(module).href);
const python = await loadPyodide({ env: { PYTHONDONTWRITEBYTECODE: "1" } });
const places = [path.dirname(file), ...folders].map((folder, number) => {
  const place = `/from_node_${number}`;
  python.FS.mkdirTree(place);
  python.mountNodeFS(place, path.resolve(folder));
  return place;
});
const sys = python.pyimport("sys");
places.forEach((place) => sys.path.append(place));
try {
  await python.pyimport(path.basename(file, ".py")).main(url, odd, process.env.FLOWMAESTRO_API_KEY);
} catch (error) {
  console.error(String(error.message ?? error));
  process.exitCode = 1;
}
