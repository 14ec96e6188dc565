"""Makes `cases.json.gz`: small models, as scikit-learn exports them or built by hand, and what onnxruntime answers.

pip install scikit-learn==1.8.0 skl2onnx==1.20.0 onnx==1.19.1 protobuf==6.33.6 onnxruntime
"""
import base64, gzip, itertools, json, os
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.ensemble import GradientBoostingClassifier, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

rng = np.random.default_rng(7)
X = rng.normal(size=(400, 4)).astype(np.float32) * [1, 3, .2, 40] + [0, 1, 5, -20]
X = X.astype(np.float32)
odds = X[:, 0] + .3 * X[:, 1] - X[:, 2] + 5 + rng.logistic(size=400) * .5
two, three = (odds > 0).astype(int), np.digitize(odds, [-.5, .7])
ROWS = np.vstack([X[:6], [[0, 0, 0, 0], [1e6, -1e6, 1e6, -1e6]]]).astype(np.float32)
HOLES = ROWS.copy(); HOLES[0, 0] = HOLES[1, 1] = HOLES[2] = np.nan
cases = []


def case(name, model, rows):
    data = model.SerializeToString()
    label, p = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"]).run(None, {model.graph.input[0].name: rows})
    cases.append({"name": name, "model": base64.b64encode(data).decode(), "labels": label.tolist(),
                  "rows": [[None if np.isnan(v) else float(v) for v in r] for r in rows], "probabilities": p.tolist()})
    print(name, len(data), [n.op_type for n in model.graph.node], label.tolist(), p[0].tolist())


def trained(name, model, y, holes=False):
    model.fit(X, y)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    case(name, to_onnx(model, X[:1], options={id(last): {"zipmap": False}}, target_opset={"": 17, "ai.onnx.ml": 3}), HOLES if holes else ROWS)


for k, y in (("two", two), ("three", three)):
    trained(f"logistic regression, {k} classes", LogisticRegression(), y)
    trained(f"scaled logistic regression, {k} classes", make_pipeline(StandardScaler(), LogisticRegression()), y)
    trained(f"decision tree, {k} classes", DecisionTreeClassifier(max_depth=3, random_state=0), y)
    trained(f"random forest, {k} classes", RandomForestClassifier(4, max_depth=3, random_state=0), y)
    trained(f"gradient boosting, {k} classes", GradientBoostingClassifier(n_estimators=3, max_depth=2, random_state=0), y)
    trained(f"histogram boosting, {k} classes", HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=5), y)
    trained(f"histogram boosting with holes, {k} classes", HistGradientBoostingClassifier(max_iter=3, max_leaf_nodes=5), y, True)


def graph(nodes, width=2, inputs=None):
    g = helper.make_graph(nodes, "g", [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, width])],
                          [helper.make_tensor_value_info("label", TensorProto.INT64, [None]),
                           helper.make_tensor_value_info("p", TensorProto.FLOAT, [None, None])])
    return helper.make_model(g, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)], ir_version=8)


SMALL = np.array([[0, 0], [1, -1], [-1, 1], [.5, .5], [2, 3], [-4, -.25]], np.float32)
GAPS = np.vstack([SMALL, [[np.nan, 1], [1, np.nan]]]).astype(np.float32)


def linear(labels, coefficients, intercepts, transform):
    return helper.make_node("LinearClassifier", ["X"], ["label", "p"], domain="ai.onnx.ml", classlabels_ints=labels, coefficients=coefficients,
                            intercepts=intercepts, post_transform=transform)


for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
    case(f"linear, two rows, {transform}", graph([linear([3, 9], [.5, -1., -.5, 1.], [.1, -.1], transform)]), SMALL)
    case(f"linear, one row, {transform}", graph([linear([3, 9], [.5, -1.], [.1], transform)]), SMALL)
    case(f"linear, three rows, {transform}", graph([linear([3, 9, 5], [.5, -1., -.5, 1., .25, .75], [.1, -.1, .0], transform)]), SMALL)


def trees(modes, values, classes, weights, labels, transform, base=None, missing=None):
    """Two stumps and one tree of three leaves: nodes 0(1,2) / 0(1,2) / 0(1,2(3,4)); leaves' weights as given."""
    shape = [[0, 1, 2], [0, 1, 2], [0, 1, 2, 3, 4]]
    inner = {(0, 0): (1, 2), (1, 0): (1, 2), (2, 0): (1, 2), (2, 2): (3, 4)}
    ids = [(t, n) for t, ns in enumerate(shape) for n in ns]
    modes, values, feature, missing = iter(modes), iter(values), itertools.cycle([0, 1]), iter(missing or [0] * 4)
    a = dict(nodes_treeids=[t for t, _ in ids], nodes_nodeids=[n for _, n in ids], nodes_featureids=[], nodes_values=[], nodes_modes=[],
             nodes_truenodeids=[], nodes_falsenodeids=[], nodes_missing_value_tracks_true=[])
    for key in ids:
        branch = key in inner
        a["nodes_modes"].append(next(modes) if branch else "LEAF")
        a["nodes_values"].append(float(next(values)) if branch else 0.)
        a["nodes_featureids"].append(next(feature) if branch else 0)
        a["nodes_truenodeids"].append(inner[key][0] if branch else 0)
        a["nodes_falsenodeids"].append(inner[key][1] if branch else 0)
        a["nodes_missing_value_tracks_true"].append(next(missing) if branch else 0)
    leaves = [key for key in ids if key not in inner]
    pairs = [(key, c, w) for key, cs, ws in zip(leaves, classes, weights) for c, w in zip(cs, ws)]
    a.update(class_treeids=[k[0] for k, _, _ in pairs], class_nodeids=[k[1] for k, _, _ in pairs], class_ids=[c for _, c, _ in pairs],
             class_weights=[w for _, _, w in pairs], classlabels_int64s=labels, post_transform=transform)
    if base is not None:
        a["base_values"] = base
    return graph([helper.make_node("TreeEnsembleClassifier", ["X"], ["label", "p"], domain="ai.onnx.ml", **a)])


LEQ = ["BRANCH_LEQ"] * 4
one, both = [[0]] * 7, [[0, 1]] * 7
mixed, positive = [[-.5], [.25], [.4], [-.1], [.3], [-.7], [.05]], [[.1], [.3], [.2], [.0], [.05], [.4], [.25]]
pairs = [[.3, .7], [.9, .1], [.5, .5], [.2, .1], [0., 1.], [-.5, .3], [.4, -.2]]
triples = [[.1, .2, .7], [.9, .1, 0.], [.5, .25, .25], [-.2, .1, .1], [0., 1., -1.], [.5, .3, .2], [.4, -.2, .3]]
for transform in ("NONE", "LOGISTIC", "SOFTMAX"):
    for base in (None, [.35], [-.2]):
        b = "no base" if base is None else f"base {base[0]}"
        case(f"trees, one class of two, mixed weights, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], one, mixed, [3, 9], transform, base), SMALL)
        case(f"trees, one class of two, positive weights, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], one, positive, [3, 9], transform, base), SMALL)
        case(f"trees, two classes, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], both, pairs, [0, 1], transform, base), SMALL)
        case(f"trees, second class of two, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], [[1]] * 7, mixed, [0, 1], transform, base), SMALL)
    for base in (None, [.35, -.2, 0.1]):
        b = "no base" if base is None else "three bases"
        case(f"trees, three classes, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], [[0, 1, 2]] * 7, triples, [3, 9, 5], transform, base), SMALL)
        case(f"trees, three classes, few seen, {b}, {transform}", trees(LEQ, [0, .5, -1, 2], [[2], [1], [2], [2], [1], [1], [2]], mixed, [3, 9, 5], transform, base), SMALL)
for mode in ("LEQ", "LT", "GTE", "GT", "EQ", "NEQ"):
    for missing in ([0] * 4, [1, 0, 1, 1]):
        case(f"trees, {mode}, missing {missing}", trees(["BRANCH_" + mode] * 4, [.5, 1, -1, -1], one, mixed, [0, 1], "LOGISTIC", [.1], missing), GAPS)
case("trees, many modes", trees(["BRANCH_LT", "BRANCH_GTE", "BRANCH_NEQ", "BRANCH_GT"], [.5, 1, -1, -1], one, mixed, [0, 1], "LOGISTIC", [.1], [0, 1, 0, 1]), GAPS)
node = helper.make_node
case("identities and two scalers", graph([
    node("Identity", ["X"], ["a"]), node("Scaler", ["a"], ["b"], domain="ai.onnx.ml", offset=[1., 2.], scale=[.5, 3.]),
    node("Scaler", ["b"], ["c"], domain="ai.onnx.ml", offset=[.5], scale=[2.]),
    node("LinearClassifier", ["c"], ["l", "q"], domain="ai.onnx.ml", classlabels_ints=[0, 1], coefficients=[.1, .2, -.1, -.2], intercepts=[0., 0.], post_transform="SOFTMAX"),
    node("Identity", ["l"], ["label"]), node("Identity", ["q"], ["p"])]), SMALL)
path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "cases.json.gz")
text = "[\n" + ",\n".join(json.dumps(it) for it in cases) + "\n]\n"
with open(path, "wb") as out:
    out.write(gzip.compress(text.encode(), 9, mtime=0))
print(len(cases), "cases,", os.path.getsize(path), "bytes")
