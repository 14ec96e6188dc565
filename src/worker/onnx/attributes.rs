//! The attributes of an operator as typed settings. Each is taken once; attributes that remain at the end are an error.

use crate::worker::onnx::error::OnnxError;
use crate::worker::onnx::proto::{AttributeProto, AttributeType, NodeProto};
use crate::worker::onnx::transform::Transform;

/// The remaining attributes of an operator.
#[derive(Debug)]
pub struct Attributes<'a> {
    operator: &'static str,
    left: Vec<AttributeProto<'a>>,
}

impl<'a> Attributes<'a> {
    /// Takes the attributes of a node.
    pub fn of(operator: &'static str, node: &mut NodeProto<'a>) -> Self {
        Attributes { operator, left: std::mem::take(&mut node.attributes) }
    }

    /// Returns a list of floats; empty if the attribute is absent.
    pub fn floats(&mut self, name: &str) -> Result<Vec<f32>, OnnxError> {
        Ok(self.take(name, AttributeType::Floats)?.map(|n| n.floats).unwrap_or_default())
    }

    /// Returns a list of integers; empty if the attribute is absent.
    pub fn ints(&mut self, name: &str) -> Result<Vec<i64>, OnnxError> {
        Ok(self.take(name, AttributeType::Ints)?.map(|n| n.ints).unwrap_or_default())
    }

    /// Returns a list of texts; empty if the attribute is absent.
    pub fn texts(&mut self, name: &str) -> Result<Vec<&'a [u8]>, OnnxError> {
        Ok(self.take(name, AttributeType::Texts)?.map(|n| n.texts).unwrap_or_default())
    }

    /// Returns the transformation of the scores.
    pub fn transform(&mut self) -> Result<Transform, OnnxError> {
        let name = "post_transform";
        let Some(attribute) = self.take(name, AttributeType::Text)? else {
            return Ok(Transform::None);
        };
        match attribute.text {
            b"NONE" => Ok(Transform::None),
            b"LOGISTIC" => Ok(Transform::Logistic),
            b"SOFTMAX" => Ok(Transform::Softmax),
            other => Err(self.wrong(
                name,
                format!(
                    "`{}` is not supported; NONE, LOGISTIC and SOFTMAX are",
                    String::from_utf8_lossy(other)
                ),
            )),
        }
    }

    /// Skips an attribute that does not affect predictions.
    pub fn ignore(&mut self, name: &str) {
        self.left.retain(|attribute| attribute.name != name);
    }

    /// Returns an error if attributes remain: an unsupported attribute could change the predictions.
    pub fn finish(self) -> Result<(), OnnxError> {
        match self.left.first() {
            Some(attribute) => Err(self.wrong(attribute.name, "is not supported".to_owned())),
            None => Ok(()),
        }
    }

    /// Returns the error for an attribute.
    pub fn wrong(&self, name: &str, why: String) -> OnnxError {
        OnnxError::Attribute { operator: self.operator, attribute: name.to_owned(), why }
    }

    fn take(
        &mut self,
        name: &str,
        kind: AttributeType,
    ) -> Result<Option<AttributeProto<'a>>, OnnxError> {
        let Some(at) = self.left.iter().position(|attribute| attribute.name == name) else {
            return Ok(None);
        };
        let attribute = self.left.swap_remove(at);
        // Files from before ONNX 1.0 do not state the type.
        if attribute.kind != 0 && attribute.kind != kind as i64 {
            return Err(
                self.wrong(name, format!("has type {}, not {}", attribute.kind, kind as i64))
            );
        }
        Ok(Some(attribute))
    }
}
