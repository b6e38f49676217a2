/** The models that this node can send to, as they were when the exchange began. Grant: `upstreams`. Prices are whole numbers (`bigint`). */
export { candidates, estimate, get, type Price, type Upstream } from "pointsman:plugin/upstreams@0.1.0";
