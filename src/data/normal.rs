//! The normal distribution's quantile function, the same bits on every machine.
//!
//! Algorithm AS 241, PPND16 (M. J. Wichura, *The percentage points of the normal distribution*, Applied Statistics 37, 1988): three quotients of
//! polynomials of degree seven, right to about 16 digits. Its tails need a logarithm, which mathematical libraries round differently; ours is a
//! series of + - * / on the number's own exponent and mantissa, which IEEE 754 fixes.

/// Numerators and denominators, lowest power first: of the middle, of the tails, and of the far tails.
const MIDDLE: [[f64; 8]; 2] = [
    [
        3.3871328727963665,
        133.14166789178438,
        1971.5909503065513,
        13731.69376550946,
        45921.95393154987,
        67265.7709270087,
        33430.57558358813,
        2509.0809287301227,
    ],
    [
        1.0,
        42.31333070160091,
        687.1870074920579,
        5394.196021424751,
        21213.794301586597,
        39307.89580009271,
        28729.085735721943,
        5226.495278852854,
    ],
];
const TAIL: [[f64; 8]; 2] = [
    [
        1.4234371107496835,
        4.630337846156546,
        5.769497221460691,
        3.6478483247632045,
        1.2704582524523684,
        0.2417807251774506,
        0.022723844989269184,
        0.0007745450142783414,
    ],
    [
        1.0,
        2.053191626637759,
        1.6763848301838038,
        0.6897673349851,
        0.14810397642748008,
        0.015198666563616457,
        0.0005475938084995345,
        1.0507500716444169e-9,
    ],
];
const FAR_TAIL: [[f64; 8]; 2] = [
    [
        6.657904643501103,
        5.463784911164114,
        1.7848265399172913,
        0.29656057182850487,
        0.026532189526576124,
        0.0012426609473880784,
        2.7115555687434876e-5,
        2.0103343992922881e-7,
    ],
    [
        1.0,
        0.599832206555888,
        0.1369298809227358,
        0.014875361290850615,
        0.0007868691311456133,
        1.8463183175100548e-5,
        1.421511758316446e-7,
        2.0442631033899397e-15,
    ],
];

/// The number that a standard normal variable is below with probability `p`, which must be in (0, 1) and a normal f64.
pub fn quantile(p: f64) -> f64 {
    let from_half = p - 0.5;
    if from_half.abs() <= 0.425 {
        return from_half * quotient(&MIDDLE, 0.180625 - from_half * from_half);
    }
    let r = (-ln(p.min(1.0 - p))).sqrt();
    let size = if r <= 5.0 { quotient(&TAIL, r - 1.6) } else { quotient(&FAR_TAIL, r - 5.0) };
    if from_half < 0.0 { -size } else { size }
}

fn quotient([numerator, denominator]: &[[f64; 8]; 2], x: f64) -> f64 {
    let horner = |coefficients: &[f64; 8]| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
    horner(numerator) / horner(denominator)
}

/// The natural logarithm of a positive, normal number: `exponent ln 2 + 2 artanh((m - 1) / (m + 1))`, with m between 1/sqrt 2 and sqrt 2.
fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits(bits & 0x000f_ffff_ffff_ffff | 0x3ff0_0000_0000_0000);
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    // s^2 is below 0.0295, so twelve terms are more than f64 can hold.
    let series = (0..12).rev().fold(0.0, |sum, k| sum * (s * s) + 1.0 / f64::from(2 * k + 1));
    f64::from(exponent) * std::f64::consts::LN_2 + 2.0 * s * series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_normal_distribution() {
        // torch.special.ndtri in f64.
        let golden = [
            (5.551115123125783e-17, -8.292361075813597),
            (1e-10, -6.361340902404056),
            (0.001, -3.090232306167813),
            (0.025, -1.9599639845400545),
            (0.25, -0.6744897501960817),
            (0.5, 0.0),
            (0.6, 0.2533471031357997),
            (0.9, 1.2815515655446004),
            (0.975, 1.959963984540054),
            (0.999, 3.090232306167813),
        ];
        for (p, expected) in golden {
            let got = quantile(p);
            assert!((got - expected).abs() <= 2e-15 * f64::max(1.0, expected.abs()), "{p}: {got}, expected {expected}");
        }
        // Without a step where one quotient takes over from the next: 0.075 and exp(-25).
        for p in [0.075, 0.925, (-25.0f64).exp()] {
            let (below, above) = (quantile(p * (1.0 - 1e-12)), quantile(p * (1.0 + 1e-12)));
            assert!(below < above && above - below < 1e-10, "{p}: {below} {above}");
        }
    }

    #[test]
    fn logarithms() {
        for x in [5.551115123125783e-17, 1e-10, 0.0749, 0.5, std::f64::consts::FRAC_1_SQRT_2, 1.0, 1.41, 1.42, 3.0, 1e300] {
            assert!((ln(x) - x.ln()).abs() <= 4e-16 * x.ln().abs(), "{x}: {} {}", ln(x), x.ln());
        }
    }
}
