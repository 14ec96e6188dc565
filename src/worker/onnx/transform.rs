//! The transformation of raw scores to probabilities.

/// The last step of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// None: the scores are probabilities already, or the model returns raw scores.
    None,
    /// The logistic function of each score.
    Logistic,
    /// The softmax of all scores.
    Softmax,
}

impl Transform {
    /// Transforms the scores of all classes in place.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Softmax => softmax(scores),
        }
    }

    /// Returns the probabilities of both classes if the model scores only the positive one, as a share of 1.
    ///
    /// Softmax of a single score changes nothing, as in onnxruntime.
    pub fn split_share(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::None | Self::Softmax => [1.0 - score, score],
        }
    }

    /// Returns the scores of both classes if the model scores only the positive one, as a margin around 0.
    pub fn split_margin(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::None | Self::Softmax => [-score, score],
        }
    }
}

fn logistic(score: f32) -> f32 {
    // A negative exponent cannot overflow.
    let above = 1.0 / (1.0 + libm::expf(-score.abs()));
    if score < 0.0 { 1.0 - above } else { above }
}

fn softmax(scores: &mut [f32]) {
    let highest = scores.iter().copied().fold(f32::MIN, f32::max);
    let mut sum = 0.0;
    for score in &mut *scores {
        *score = libm::expf(*score - highest);
        sum += *score;
    }
    for score in scores {
        *score /= sum;
    }
}
