//! Vectors that stand for what a text means, and how near two of them are.
//!
//! **Invariant:** a leaf: it uses no other module of the crate.

use std::sync::Arc;

/// A vector of unit length.
pub type Vector = Arc<[f32]>;

/// The cosine of two vectors of unit length.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    // One sum could not be added up in another order than written; sixteen at a time can be, several in one instruction.
    const WIDE: usize = 16;
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<WIDE>(), b.as_chunks::<WIDE>());
    let mut sums = [0.0; WIDE];
    for (a, b) in a.iter().zip(b) {
        for (sum, (x, y)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f32>()
}

/// Scales to unit length; none if there is no direction.
pub fn unit(mut vector: Vec<f32>) -> Option<Vector> {
    let length = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if !length.is_finite() || length < 1e-6 {
        return None;
    }
    for value in &mut vector {
        *value /= length;
    }
    Some(vector.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cosine_has_all_components() {
        for length in [0, 1, 15, 16, 17, 256, 384] {
            let a: Vec<f32> = (0..length).map(|place| place as f32 - 7.0).collect();
            let b: Vec<f32> = (0..length).map(|place| (place * 5 % 11) as f32).collect();
            assert_eq!(cosine(&a, &b), a.iter().zip(&b).map(|(x, y)| x * y).sum::<f32>(), "{length}");
        }
    }

    #[test]
    fn a_vector_without_a_direction_is_none() {
        assert_eq!(unit(vec![3.0, 4.0]).as_deref(), Some([0.6, 0.8].as_slice()));
        for nothing in [vec![], vec![0.0; 4], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0]] {
            assert_eq!(unit(nothing), None);
        }
    }
}
