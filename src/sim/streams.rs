//! Seeded randomness: one stream a subsystem, so that a draw more in one does not move the others.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::scenario::Spread;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// The `number`-th stream of a seed.
    pub fn new(seed: u64, number: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(number);
        Self(rng)
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// From 0 (included) to 1 (excluded), every one of 2^53 values alike.
    pub fn uniform(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.uniform() < probability
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        (self.uniform() * n as f64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u32, high: u32) -> u32 {
        low + self.below((high.max(low) - low + 1) as usize) as u32
    }

    /// Microseconds between two bounds in milliseconds.
    pub fn micros(&mut self, low_ms: f64, high_ms: f64) -> u64 {
        ((low_ms + self.uniform() * (high_ms - low_ms)) * 1000.0).max(1.0) as u64
    }

    /// Microseconds from a spread: normal, cut at three deviations and at 10 ms.
    pub fn spread(&mut self, spread: Spread) -> u64 {
        let (a, b) = (1.0 - self.uniform(), self.uniform());
        let normal = (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let seconds = spread.mean + normal.clamp(-3.0, 3.0) * spread.deviation;
        (seconds.max(0.01) * 1e6) as u64
    }
}

/// The streams of a world.
#[derive(Clone, Debug)]
pub struct Streams {
    /// Instances: launch, boot, join, termination.
    pub instances: Stream,
    /// DaemonSet pods.
    pub daemons: Stream,
    /// Workload pods.
    pub pods: Stream,
    /// The scheduler and the controllers.
    pub control: Stream,
    /// How long requests take.
    pub latency: Stream,
    /// Whether a fault strikes.
    pub faults: Stream,
}

impl Streams {
    /// All streams of a seed.
    pub fn new(seed: u64) -> Self {
        let stream = |number| Stream::new(seed, number);
        Self {
            instances: stream(1),
            daemons: stream(2),
            pods: stream(3),
            control: stream(4),
            latency: stream(5),
            faults: stream(6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_streams_differ() {
        let draw = |seed, number| {
            let mut stream = Stream::new(seed, number);
            (0..8).map(|_| stream.bits()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7, 1), draw(7, 1));
        assert_ne!(draw(7, 1), draw(7, 2));
        assert_ne!(draw(7, 1), draw(8, 1));
    }

    #[test]
    fn a_spread_keeps_its_mean_and_its_bounds() {
        let mut stream = Stream::new(1, 1);
        let spread = Spread { mean: 90.0, deviation: 10.0 };
        let draws: Vec<f64> = (0..4000).map(|_| stream.spread(spread) as f64 / 1e6).collect();
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 90.0).abs() < 1.0, "{mean}");
        assert!(draws.iter().all(|d| (60.0..=120.0).contains(d)));
    }
}
