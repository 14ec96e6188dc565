//! From raw scores to the numbers that a classifier gives out as probabilities.

/// What is done to the scores at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform {
    /// Nothing: the scores are probabilities already, or the caller wants them raw.
    None,
    /// Each score for itself through the logistic function.
    Logistic,
    /// All scores together through softmax.
    Softmax,
}

impl Transform {
    /// Transforms a score for each class, in place.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            Self::None => {}
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::Softmax => softmax(scores),
        }
    }

    /// Returns both classes' numbers where the model scores only the positive one, as a share of 1.
    ///
    /// Softmax of a single score has no meaning and changes nothing; so it is in onnxruntime.
    pub fn split_share(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::None | Self::Softmax => [1.0 - score, score],
        }
    }

    /// Returns both classes' numbers where the model scores only the positive one, around 0.
    pub fn split_margin(self, score: f32) -> [f32; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::None | Self::Softmax => [-score, score],
        }
    }
}

fn logistic(score: f32) -> f32 {
    // By the magnitude, so that exp never overflows.
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
