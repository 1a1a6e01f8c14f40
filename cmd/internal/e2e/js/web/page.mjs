// The page: the whole of Hydrogen as its authors publish it, with nothing of ours but this wiring.
import { FeatureSet, Platform, RootView, RootViewModel, createNavigation, createRouter } from "hydrogen-view-sdk";

const assetPaths = {
  downloadSandbox: "assets/download-sandbox.html",
  worker: "main.js",
  olm: { wasm: "olm.wasm", legacyBundle: "olm_legacy.js", wasmBundle: "olm.js" },
  serviceWorker: "sw.js",
};
const container = document.querySelector("#app");
const config = { defaultHomeServer: new URLSearchParams(location.search).get("hub") };
const platform = new Platform({ container, assetPaths, config, options: {} });
await platform.init();
const navigation = createNavigation();
platform.setNavigation(navigation);
const urlRouter = createRouter({ navigation, history: platform.history });
urlRouter.attach();
const features = await FeatureSet.load(platform.settingsStorage);
const root = new RootViewModel({ platform, urlRouter, navigation, features });
await root.load();
platform.createAndMountRootView(root);
