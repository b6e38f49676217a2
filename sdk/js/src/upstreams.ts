/** The models that this node can send to, as they were when the exchange began. Grant: `upstreams`. Prices are whole numbers (`bigint`). */
export { candidates, type Circuit, estimate, get, type Latency, type Price, type Status, statusOf, type Upstream } from "pointsman:plugin/upstreams@0.1.0";
