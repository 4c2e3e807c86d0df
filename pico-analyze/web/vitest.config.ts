import { defineConfig } from "vitest/config";

export default defineConfig({
  test: {
    projects: [
      { test: { name: "unit", include: ["tests/*.test.ts"], environment: "node" } },
      { test: { name: "browser", include: ["browser/*.test.ts"], environment: "node", testTimeout: 60_000, hookTimeout: 120_000 } },
    ],
  },
});
