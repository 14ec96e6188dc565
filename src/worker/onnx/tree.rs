//! The operator `TreeEnsembleClassifier`, to which decision trees, forests and boosted trees are exported.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::worker::onnx::attributes::Attributes;
use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::proto::NodeProto;
use crate::worker::onnx::transform::Transform;

const OPERATOR: &str = "TreeEnsembleClassifier";

/// A sum over trees of the weights of the leaf that the features lead to.
///
/// Every node has at most one parent, so every walk from a root ends at a leaf.
#[derive(Debug)]
pub struct TreeEnsemble {
    labels: Vec<i64>,
    base: Vec<f32>,
    transform: Transform,
    nodes: Vec<Node>,
    roots: Vec<usize>,
    /// Class and weight of each score of a leaf. The scores of one leaf are adjacent.
    weights: Vec<(usize, f32)>,
    binary: Binary,
}

/// How an ensemble with two classes decides between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binary {
    /// All weights belong to one class and none is negative: the score is a share, and the threshold is 0.5.
    Share,
    /// All weights belong to one class: the score is a margin, and the threshold is 0.
    Margin,
    /// Both classes have weights.
    BothScored,
}

/// A node. The nodes of all trees are in one list.
#[derive(Debug)]
enum Node {
    /// Compares one feature and leads to a child.
    Branch {
        mode: Mode,
        missing_is_true: bool,
        feature: usize,
        value: f32,
        when_true: usize,
        when_false: usize,
    },
    /// Adds its weights to the scores.
    Leaf { weights: Range<usize> },
}

/// How a branch compares its feature with its value.
#[derive(Clone, Copy, Debug)]
enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
}

impl TreeEnsemble {
    /// Reads the operator's settings for `width` features.
    pub fn read(node: &mut NodeProto<'_>, width: usize) -> Result<Self, OnnxError> {
        let mut attributes = Attributes::of(OPERATOR, node);
        let labels = attributes.ints("classlabels_int64s")?;
        if labels.len() < 2 {
            return Err(
                attributes.wrong("classlabels_int64s", "has fewer than two classes".to_owned())
            );
        }
        let base = attributes.floats("base_values")?;
        // For two classes with two base values, onnxruntime's rules contradict each other.
        let fits = if labels.len() == 2 {
            base.len() <= 1
        } else {
            base.is_empty() || base.len() == labels.len()
        };
        if !fits {
            let why = format!("has {} members for {} classes", base.len(), labels.len());
            return Err(attributes.wrong("base_values", why));
        }
        let transform = attributes.transform()?;
        let columns = Columns::read(&mut attributes)?;
        let leaves = Leaves::read(&mut attributes, &columns, labels.len())?;
        attributes.ignore("nodes_hitrates");
        let (nodes, roots) = columns.nodes(&attributes, &leaves, width)?;
        attributes.finish()?;
        let binary = if leaves.weights.windows(2).any(|pair| pair[0].0 != pair[1].0) {
            Binary::BothScored
        } else if leaves.weights.iter().any(|(_, weight)| *weight < 0.0) {
            Binary::Margin
        } else {
            Binary::Share
        };
        Ok(Self { labels, base, transform, nodes, roots, weights: leaves.weights, binary })
    }

    /// Computes the probability of each class and returns the label; `seen` is a scratch buffer.
    pub fn classify(
        &self,
        features: &[f32],
        probabilities: &mut Vec<f32>,
        seen: &mut Vec<bool>,
    ) -> i64 {
        let classes = self.labels.len();
        probabilities.clear();
        probabilities.resize(classes, 0.0);
        seen.clear();
        seen.resize(classes, false);
        for root in &self.roots {
            for (class, weight) in &self.weights[self.leaf(*root, features)] {
                probabilities[*class] += weight;
                seen[*class] = true;
            }
        }
        if classes == 2 {
            return self.labels[usize::from(self.finish_two(probabilities, seen))];
        }
        for (class, base) in self.base.iter().enumerate() {
            probabilities[class] += base;
            seen[class] = true;
        }
        // A class without a score cannot win.
        let mut best = None;
        for class in (0..classes).filter(|class| seen[*class]) {
            if best.is_none_or(|best: usize| probabilities[class] > probabilities[best]) {
                best = Some(class);
            }
        }
        self.transform.apply(probabilities);
        self.labels[best.unwrap_or(0)]
    }

    /// Returns the weights of the leaf that the features lead to.
    fn leaf(&self, root: usize, features: &[f32]) -> Range<usize> {
        let mut at = root;
        loop {
            match &self.nodes[at] {
                Node::Leaf { weights } => return weights.clone(),
                Node::Branch { mode, missing_is_true, feature, value, when_true, when_false } => {
                    let feature = features[*feature];
                    let holds = mode.holds(feature, *value) || *missing_is_true && feature.is_nan();
                    at = if holds { *when_true } else { *when_false };
                }
            }
        }
    }

    /// Transforms the scores of two classes and returns whether the second class wins, as onnxruntime does.
    fn finish_two(&self, scores: &mut [f32], seen: &[bool]) -> bool {
        if seen[0]
            && let [base] = self.base[..]
        {
            scores[0] += base;
        }
        // If only one class has scores, they are filed under the first class and belong to the second.
        let positive = if seen[1] { scores[1] } else { scores[0] };
        let is_second = match self.binary {
            Binary::Share => positive > 0.5,
            Binary::Margin | Binary::BothScored => positive > 0.0,
        };
        if seen[1] {
            self.transform.apply(scores);
        } else {
            let split = match self.binary {
                Binary::Share => self.transform.split_share(positive),
                Binary::Margin | Binary::BothScored => self.transform.split_margin(positive),
            };
            scores.copy_from_slice(&split);
        }
        is_second
    }
}

impl Mode {
    fn read(text: &[u8]) -> Option<Self> {
        match text {
            b"BRANCH_LEQ" => Some(Self::Leq),
            b"BRANCH_LT" => Some(Self::Lt),
            b"BRANCH_GTE" => Some(Self::Gte),
            b"BRANCH_GT" => Some(Self::Gt),
            b"BRANCH_EQ" => Some(Self::Eq),
            b"BRANCH_NEQ" => Some(Self::Neq),
            _ => None,
        }
    }

    #[expect(clippy::float_cmp, reason = "these two branches are defined as exact comparison")]
    fn holds(self, feature: f32, value: f32) -> bool {
        match self {
            Self::Leq => feature <= value,
            Self::Lt => feature < value,
            Self::Gte => feature >= value,
            Self::Gt => feature > value,
            Self::Eq => feature == value,
            Self::Neq => feature != value,
        }
    }
}

/// The nodes as they are in the file: one list per property.
#[derive(Debug)]
struct Columns<'a> {
    modes: Vec<&'a [u8]>,
    trees: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f32>,
    when_true: Vec<i64>,
    when_false: Vec<i64>,
    missing: Vec<i64>,
    /// The index of a node by its tree and its id.
    places: BTreeMap<(i64, i64), usize>,
}

impl<'a> Columns<'a> {
    fn read(attributes: &mut Attributes<'a>) -> Result<Self, OnnxError> {
        let modes = attributes.texts("nodes_modes")?;
        let missing = attributes.ints("nodes_missing_value_tracks_true")?;
        let ids = same_len(attributes, modes.len(), "nodes_nodeids")?;
        let trees = same_len(attributes, modes.len(), "nodes_treeids")?;
        let features = same_len(attributes, modes.len(), "nodes_featureids")?;
        let when_true = same_len(attributes, modes.len(), "nodes_truenodeids")?;
        let when_false = same_len(attributes, modes.len(), "nodes_falsenodeids")?;
        let values = attributes.floats("nodes_values")?;
        if values.len() != modes.len() {
            return Err(attributes.wrong("nodes_values", wrong_len(values.len(), modes.len())));
        }
        if !missing.is_empty() && missing.len() != modes.len() {
            let why = wrong_len(missing.len(), modes.len());
            return Err(attributes.wrong("nodes_missing_value_tracks_true", why));
        }
        let mut places = BTreeMap::new();
        for (at, (tree, id)) in trees.iter().zip(&ids).enumerate() {
            if places.insert((*tree, *id), at).is_some() {
                return Err(
                    attributes.wrong("nodes_nodeids", format!("tree {tree} has two nodes {id}"))
                );
            }
        }
        Ok(Columns { modes, trees, features, values, when_true, when_false, missing, places })
    }

    /// Returns the nodes with their indices resolved, and the roots of the trees.
    fn nodes(
        &self,
        attributes: &Attributes<'_>,
        leaves: &Leaves,
        width: usize,
    ) -> Result<(Vec<Node>, Vec<usize>), OnnxError> {
        let mut nodes = Vec::with_capacity(self.modes.len());
        let mut is_child = vec![false; self.modes.len()];
        for at in 0..self.modes.len() {
            if self.modes[at] == b"LEAF" {
                nodes.push(Node::Leaf { weights: leaves.ranges[at].clone() });
                continue;
            }
            let mode = Mode::read(self.modes[at]).ok_or_else(|| {
                let why = format!("`{}` is not supported", String::from_utf8_lossy(self.modes[at]));
                attributes.wrong("nodes_modes", why)
            })?;
            let feature = usize::try_from(self.features[at])
                .ok()
                .filter(|a| *a < width)
                .ok_or_else(|| {
                    let why = format!("{} is not one of {width} features", self.features[at]);
                    attributes.wrong("nodes_featureids", why)
                })?;
            let mut child = |name, id| {
                self.child(at, id, &mut is_child).ok_or_else(|| {
                    let why = format!(
                        "node {id} of tree {} does not exist or has two parents",
                        self.trees[at]
                    );
                    attributes.wrong(name, why)
                })
            };
            nodes.push(Node::Branch {
                mode,
                missing_is_true: self.missing.get(at).is_some_and(|a| *a == 1),
                feature,
                value: self.values[at],
                when_true: child("nodes_truenodeids", self.when_true[at])?,
                when_false: child("nodes_falsenodeids", self.when_false[at])?,
            });
        }
        let mut roots = Vec::new();
        for (at, is_child) in is_child.into_iter().enumerate() {
            let starts_a_tree = at == 0 || self.trees[at] != self.trees[at - 1];
            if starts_a_tree && is_child {
                let why =
                    format!("the nodes of tree {} do not begin with its root", self.trees[at]);
                return Err(attributes.wrong("nodes_treeids", why));
            }
            if starts_a_tree {
                roots.push(at);
            }
        }
        Ok((nodes, roots))
    }

    /// Returns the index of a child if it exists and has no other parent.
    ///
    /// Nodes have one parent and roots have none, so a walk from a root never visits a node twice.
    fn child(&self, parent: usize, id: i64, is_child: &mut [bool]) -> Option<usize> {
        let at = *self.places.get(&(self.trees[parent], id))?;
        let is_new = !std::mem::replace(&mut is_child[at], true);
        is_new.then_some(at)
    }
}

/// The scores of the leaves.
#[derive(Debug)]
struct Leaves {
    weights: Vec<(usize, f32)>,
    /// The range of each node in `weights`.
    ranges: Vec<Range<usize>>,
}

impl Leaves {
    fn read(
        attributes: &mut Attributes<'_>,
        columns: &Columns<'_>,
        classes: usize,
    ) -> Result<Self, OnnxError> {
        let values = attributes.floats("class_weights")?;
        let classes_of = same_len(attributes, values.len(), "class_ids")?;
        let ids = same_len(attributes, values.len(), "class_nodeids")?;
        let trees = same_len(attributes, values.len(), "class_treeids")?;
        if values.is_empty() {
            return Err(attributes.wrong("class_weights", "is empty".to_owned()));
        }
        let mut found = Vec::with_capacity(values.len());
        for at in 0..values.len() {
            let class =
                usize::try_from(classes_of[at]).ok().filter(|a| *a < classes).ok_or_else(|| {
                    attributes.wrong(
                        "class_ids",
                        format!("{} is not one of {classes} classes", classes_of[at]),
                    )
                })?;
            let node = *columns.places.get(&(trees[at], ids[at])).ok_or_else(|| {
                attributes
                    .wrong("class_nodeids", format!("tree {} has no node {}", trees[at], ids[at]))
            })?;
            found.push((node, class, values[at]));
        }
        // A stable sort keeps the weights of a leaf in the order of the file.
        found.sort_by_key(|(node, _, _)| *node);
        let mut ranges = vec![0..0; columns.modes.len()];
        for (at, (node, _, _)) in found.iter().enumerate() {
            let range = &mut ranges[*node];
            let start = if range.end == 0 { at } else { range.start };
            *range = start..at + 1;
        }
        Ok(Self {
            weights: found.into_iter().map(|(_, class, value)| (class, value)).collect(),
            ranges,
        })
    }
}

fn same_len(
    attributes: &mut Attributes<'_>,
    len: usize,
    name: &str,
) -> Result<Vec<i64>, OnnxError> {
    let list = attributes.ints(name)?;
    if list.len() == len {
        Ok(list)
    } else {
        Err(attributes.wrong(name, wrong_len(list.len(), len)))
    }
}

fn wrong_len(found: usize, wanted: usize) -> String {
    format!("has {found} members, expected {wanted}")
}
