//! Vectors of length one, as 16-bit numbers. That halves what lies in memory and what is read for a scan, and a product of two whole numbers
//! is two instructions on any processor; the similarity of two vectors moves by a hundred-thousandth, which is less than a threshold can say.

use crate::decision::amount::Ratio;
use std::sync::Arc;

/// The most numbers of a vector.
pub const DIMENSIONS_MAX: usize = 4_096;
/// What one is. The products of two vectors of length one add up to its square at most, which 32 bits hold.
const ONE: f64 = 32_767.0;
/// How many numbers are multiplied side by side.
const LANES: usize = 16;
const TEN_THOUSAND: f64 = 10_000.0;

/// A vector of length one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vector(Arc<[i16]>);

impl Vector {
    /// `None`: it has no direction, or is too long, or is not all finite.
    pub fn of(numbers: &[f64]) -> Option<Self> {
        let largest = numbers.iter().fold(0.0_f64, |most, number| most.max(number.abs()));
        let usable = numbers.len() <= DIMENSIONS_MAX && largest > 0.0 && numbers.iter().all(|number| number.is_finite());
        if !usable {
            return None;
        }
        // Divided by the largest first, so that no square overflows or vanishes.
        let length = numbers.iter().map(|number| (number / largest).powi(2)).sum::<f64>().sqrt();
        let whole = |number: &f64| (number / largest / length * ONE).round() as i16;
        Some(Self(numbers.iter().map(whole).collect()))
    }

    pub fn numbers(&self) -> &[i16] {
        &self.0
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    /// As [`Vector::to_bytes`] wrote it.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let is_whole = rest.is_empty() && !pairs.is_empty() && pairs.len() <= DIMENSIONS_MAX;
        is_whole.then(|| Self(pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect()))
    }

    /// How alike two vectors are: the cosine of their angle, below zero as zero.
    pub fn similarity(&self, other: &Self) -> Ratio {
        similarity(dot(&self.0, &other.0))
    }
}

/// The sum of the products. Independent sums side by side, so that the compiler may use whatever width the processor has.
pub(super) fn dot(a: &[i16], b: &[i16]) -> i32 {
    let (a, rest_of_a) = a.as_chunks::<LANES>();
    let (b, rest_of_b) = b.as_chunks::<LANES>();
    let mut sums = [0i32; LANES];
    for (a, b) in a.iter().zip(b) {
        for lane in 0..LANES {
            sums[lane] = sums[lane].wrapping_add(i32::from(a[lane]) * i32::from(b[lane]));
        }
    }
    let rest = rest_of_a.iter().zip(rest_of_b).map(|(a, b)| i32::from(*a) * i32::from(*b));
    sums.into_iter().chain(rest).fold(0, i32::wrapping_add)
}

pub(super) fn similarity(dot: i32) -> Ratio {
    let share = (f64::from(dot) / (ONE * ONE) * TEN_THOUSAND).round().clamp(0.0, TEN_THOUSAND);
    Ratio::from_ten_thousandths(share as u16).unwrap_or(Ratio::ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_has_no_direction_is_no_vector() {
        for wrong in [
            vec![],
            vec![0.0, 0.0],
            vec![f64::INFINITY],
            vec![f64::NAN, 1.0],
            vec![1.0; DIMENSIONS_MAX + 1],
        ] {
            assert_eq!(Vector::of(&wrong), None, "{:?}", wrong.first());
        }
        for hard in [vec![1e300, 1e300], vec![5e-324], vec![1.0; DIMENSIONS_MAX]] {
            let vector = Vector::of(&hard).expect("a vector");
            assert_eq!(vector.similarity(&vector), Ratio::ONE, "{:?}", hard.first());
        }
    }

    proptest! {
        #[test]
        fn a_similarity_is_the_cosine(pairs in prop::collection::vec((-1.0f64..1.0, -1.0f64..1.0), 1..100)) {
            let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
            let norm = |v: &[f64]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            prop_assume!(norm(&a) > 1e-3 && norm(&b) > 1e-3);
            let exact = a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() / norm(&a) / norm(&b);
            let (a, b) = (Vector::of(&a).expect("a vector"), Vector::of(&b).expect("a vector"));
            let told = a.similarity(&b).ten_thousandths() as f64 / 1e4;
            prop_assert!((told - exact.max(0.0)).abs() < 2e-4, "{} {}", told, exact);
            prop_assert_eq!(Vector::from_bytes(&a.to_bytes()), Some(a));
        }
    }
}
