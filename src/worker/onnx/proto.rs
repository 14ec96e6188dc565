//! The messages of an ONNX file that a classifier needs, borrowed from the bytes of the file.

use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::wire::Fields;

/// The most members of a list: more than any exported classifier has. It limits the memory that a small malicious file can allocate.
const LIST_LEN_MAX: usize = 256;

/// A whole file.
#[derive(Debug)]
pub struct ModelProto<'a> {
    /// The operator sets that the model imports: domain and version.
    pub opsets: Vec<(&'a str, i64)>,
    /// Its graph.
    pub graph: GraphProto<'a>,
}

/// The operators. The names of their inputs and outputs connect them.
#[derive(Debug, Default)]
pub struct GraphProto<'a> {
    /// The operators, each after those whose outputs it takes.
    pub nodes: Vec<NodeProto<'a>>,
    /// The inputs of the graph.
    pub inputs: Vec<InputProto<'a>>,
    /// The names of the outputs of the graph.
    pub outputs: Vec<&'a str>,
}

/// One input of the graph.
#[derive(Debug, Default)]
pub struct InputProto<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number of its element type; 1 is float. `None` if it is not a tensor or has no type.
    pub element: Option<i64>,
    /// Its dimensions; `None` for a dynamic one.
    pub shape: Vec<Option<i64>>,
}

/// One operator.
#[derive(Debug, Default)]
pub struct NodeProto<'a> {
    /// Its type, such as `Scaler`.
    pub operator: &'a str,
    /// The domain of its type; empty for the default domain.
    pub domain: &'a str,
    /// Its inputs.
    pub inputs: Vec<&'a str>,
    /// Its outputs.
    pub outputs: Vec<&'a str>,
    /// Its attributes.
    pub attributes: Vec<AttributeProto<'a>>,
}

/// One attribute of an operator.
#[derive(Debug, Default)]
pub struct AttributeProto<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number of its type, see [`AttributeType`]; 0 if the file does not state it.
    pub kind: i64,
    /// Its value, if it is an integer.
    pub int: i64,
    /// Its value, if it is a text.
    pub text: &'a [u8],
    /// Its value, if it is a list of floats.
    pub floats: Vec<f32>,
    /// Its value, if it is a list of integers.
    pub ints: Vec<i64>,
    /// Its value, if it is a list of texts.
    pub texts: Vec<&'a [u8]>,
}

/// The attribute types of the supported operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributeType {
    /// One integer.
    Int = 2,
    /// One text.
    Text = 3,
    /// A list of floats.
    Floats = 6,
    /// A list of integers.
    Ints = 7,
    /// A list of texts.
    Texts = 8,
}

impl<'a> ModelProto<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        const MESSAGE: &str = "ModelProto";
        let mut opsets = Vec::new();
        let mut graph = None;
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                7 if graph.is_some() => {
                    return Err(OnnxError::Malformed {
                        message: MESSAGE,
                        why: "it has two graphs",
                    });
                }
                7 => graph = Some(GraphProto::read(field.value.bytes(MESSAGE)?)?),
                8 => push(MESSAGE, &mut opsets, read_opset(field.value.bytes(MESSAGE)?)?)?,
                _ => {}
            }
        }
        let graph =
            graph.ok_or(OnnxError::Malformed { message: MESSAGE, why: "it has no graph" })?;
        Ok(ModelProto { opsets, graph })
    }

    /// Returns the version of a domain's operator set, if the model imports it.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        let is_default = |domain: &str| domain.is_empty() || domain == "ai.onnx";
        self.opsets
            .iter()
            .filter(|(o, _)| *o == domain || is_default(o) && is_default(domain))
            .map(|(_, version)| *version)
            .max()
    }
}

impl<'a> GraphProto<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        const MESSAGE: &str = "GraphProto";
        let mut graph = GraphProto::default();
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                1 => {
                    let node = NodeProto::read(field.value.bytes(MESSAGE)?)?;
                    push(MESSAGE, &mut graph.nodes, node)?;
                }
                11 => {
                    let input = InputProto::read(field.value.bytes(MESSAGE)?)?;
                    push(MESSAGE, &mut graph.inputs, input)?;
                }
                12 => {
                    let output = InputProto::read(field.value.bytes(MESSAGE)?)?;
                    push(MESSAGE, &mut graph.outputs, output.name)?;
                }
                _ => {}
            }
        }
        Ok(graph)
    }
}

impl<'a> InputProto<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        const MESSAGE: &str = "ValueInfoProto";
        let mut input = InputProto::default();
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                1 => input.name = field.value.text(MESSAGE)?,
                2 => input.read_type(field.value.bytes(MESSAGE)?)?,
                _ => {}
            }
        }
        Ok(input)
    }

    fn read_type(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        for field in Fields::new("TypeProto", bytes) {
            let field = field?;
            if field.number == 1 {
                self.read_tensor_type(field.value.bytes("TypeProto")?)?;
            }
        }
        Ok(())
    }

    fn read_tensor_type(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        const MESSAGE: &str = "TypeProto.Tensor";
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                1 => self.element = Some(field.value.int(MESSAGE)?),
                2 => self.read_shape(field.value.bytes(MESSAGE)?)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_shape(&mut self, bytes: &[u8]) -> Result<(), OnnxError> {
        const MESSAGE: &str = "TensorShapeProto";
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            if field.number == 1 {
                let mut dimension = None;
                for part in Fields::new(MESSAGE, field.value.bytes(MESSAGE)?) {
                    let part = part?;
                    if part.number == 1 {
                        dimension = Some(part.value.int(MESSAGE)?);
                    }
                }
                push(MESSAGE, &mut self.shape, dimension)?;
            }
        }
        Ok(())
    }
}

impl<'a> NodeProto<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        const MESSAGE: &str = "NodeProto";
        let mut node = NodeProto::default();
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                1 => push(MESSAGE, &mut node.inputs, field.value.text(MESSAGE)?)?,
                2 => push(MESSAGE, &mut node.outputs, field.value.text(MESSAGE)?)?,
                4 => node.operator = field.value.text(MESSAGE)?,
                5 => {
                    let attribute = AttributeProto::read(field.value.bytes(MESSAGE)?)?;
                    push(MESSAGE, &mut node.attributes, attribute)?;
                }
                7 => node.domain = field.value.text(MESSAGE)?,
                _ => {}
            }
        }
        Ok(node)
    }
}

impl<'a> AttributeProto<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, OnnxError> {
        const MESSAGE: &str = "AttributeProto";
        let mut attribute = AttributeProto::default();
        for field in Fields::new(MESSAGE, bytes) {
            let field = field?;
            match field.number {
                1 => attribute.name = field.value.text(MESSAGE)?,
                3 => attribute.int = field.value.int(MESSAGE)?,
                4 => attribute.text = field.value.bytes(MESSAGE)?,
                7 => field.value.floats_into(MESSAGE, &mut attribute.floats)?,
                8 => field.value.ints_into(MESSAGE, &mut attribute.ints)?,
                9 => attribute.texts.push(field.value.bytes(MESSAGE)?),
                20 => attribute.kind = field.value.int(MESSAGE)?,
                _ => {}
            }
        }
        Ok(attribute)
    }
}

fn read_opset(bytes: &[u8]) -> Result<(&str, i64), OnnxError> {
    const MESSAGE: &str = "OperatorSetIdProto";
    let (mut domain, mut version) = ("", 0);
    for field in Fields::new(MESSAGE, bytes) {
        let field = field?;
        match field.number {
            1 => domain = field.value.text(MESSAGE)?,
            2 => version = field.value.int(MESSAGE)?,
            _ => {}
        }
    }
    Ok((domain, version))
}

fn push<T>(message: &'static str, list: &mut Vec<T>, item: T) -> Result<(), OnnxError> {
    if list.len() == LIST_LEN_MAX {
        return Err(OnnxError::Malformed { message, why: "a list in it has over 256 members" });
    }
    list.push(item);
    Ok(())
}
