//! What is wrong with a table of variants, against the program that it is meant for.

use crate::error::{Error, Result};
use crate::graph::variants::{Choice, Variants};
use crate::ops;
use crate::suggest::nearest;
use std::collections::BTreeSet;

/// Refuses kernels that do not exist. Those that exist and cannot run their product are found by [`Variants::choose`].
///
/// # Errors
/// [`Error::Input`] naming the entry and the nearest kernel.
pub(super) fn check_kernels(variants: &Variants) -> Result<()> {
    let labels: Vec<String> = ops::kernels().iter().map(|kernel| kernel.label()).collect();
    let Some((product, label)) = variants.kernels.iter().find(|(_, label)| !labels.contains(label)) else { return Ok(()) };
    let hint = nearest(label, labels.iter().map(String::as_str)).map(|near| format!("; did you mean {near}?")).unwrap_or_default();
    Err(Error::input(format!("{}: there is no kernel {label:?}{hint}", variants.entry(product))))
}

/// Refuses products that the program has not: the table is then of another step, and would not do what its maker expects.
///
/// # Errors
/// [`Error::Input`] naming the entry and the nearest product.
pub(super) fn check_products(variants: &Variants, choices: &[Choice]) -> Result<()> {
    let products: BTreeSet<&str> = choices.iter().map(|choice| choice.product.as_str()).collect();
    let Some(stranger) = variants.kernels.keys().find(|product| !products.contains(product.as_str())) else { return Ok(()) };
    let hint = nearest(stranger, products).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
    Err(Error::input(format!(
        "{}: nothing here computes this product{hint} A table is for one preset, batch and image size: make one for these with `ganymede \
         tune`, or give `--variants default` for the built-in choice",
        variants.entry(stranger)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::lower::Caps;
    use crate::graph::shape::Shape;
    use crate::ops::matmul::matmul;
    use crate::plan::{Plan, Program, compile, compile_with, products};

    /// Two products of the same shapes and one of others.
    fn program() -> Program {
        let mut program = Program::new("test");
        let mut leaf = |name: &str, dims: [usize; 2]| {
            let shape = Shape::new(&dims).unwrap();
            let place = program.tensor_buffer(name, &shape);
            program.leaf(name, &shape, place).unwrap()
        };
        let (a, b, c, d) = (leaf("a", [8, 16]), leaf("b", [16, 12]), leaf("c", [16, 12]), leaf("d", [12, 4]));
        let ab = matmul(&mut program.graph, a, b, false, false).unwrap();
        let ac = matmul(&mut program.graph, a, c, false, false).unwrap();
        let abd = matmul(&mut program.graph, ab, d, false, false).unwrap();
        for (name, node) in [("ab", ab), ("ac", ac), ("abd", abd)] {
            let place = program.tensor_buffer(name, &program.graph.shape(node).clone());
            program.compute(node, place);
        }
        program
    }

    fn software() -> Caps {
        Caps { fixed_subgroup: true, software: true, ..Caps::minimal() }
    }

    fn kernels(plan: &Plan) -> Vec<String> {
        plan.dispatches.iter().map(|(_, d)| d.kernel.label()).collect()
    }

    fn table(entries: &[(&str, &str)]) -> Variants {
        let kernels = entries.iter().map(|(product, label)| (product.to_string(), label.to_string())).collect();
        Variants { kernels, origin: "v.toml".into() }
    }

    #[test]
    fn a_table_changes_its_products_and_no_others() {
        let plain = kernels(&compile(&mut program(), &software()).unwrap());
        let chosen = table(&[("matmul_nn 8x16 16x12", "gemm_rows_plain/n")]);
        let with = kernels(&compile_with(&mut program(), &software(), &chosen).unwrap());
        assert_ne!(plain[0], "gemm_rows_plain/n");
        assert_eq!(with, ["gemm_rows_plain/n", "gemm_rows_plain/n", plain[2].as_str()]);
    }

    #[test]
    fn strangers_are_refused() {
        let refused = |entry, caps: &Caps| {
            let error = compile_with(&mut program(), caps, &table(&[entry])).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{error}");
            error.to_string()
        };
        let text = refused(("matmul_nn 8x16 16x12", "gemm_rows_plane/n"), &software());
        assert!(text.starts_with("v.toml: \"matmul_nn 8x16 16x12\": there is no kernel \"gemm_rows_plane/n\""), "{text}");
        assert!(text.contains("did you mean gemm_rows_plain/n?"), "{text}");
        let text = refused(("matmul_nn 8x16 16x13", "gemm_rows_plain/n"), &software());
        assert!(text.starts_with("v.toml: \"matmul_nn 8x16 16x13\": nothing here computes") && text.contains("\"matmul_nn 8x16 16x12\"?"));
        // A kernel of another form, and one that needs what the adapter lacks.
        for (label, caps) in [("gemm_rows_plain/t", software()), ("gemm_rows_broadcast/n_vec4", Caps::minimal())] {
            let text = refused(("matmul_nn 8x16 16x12", label), &caps);
            assert!(text.contains(&format!("kernel {label} cannot run this product on this adapter")), "{text}");
            assert!(text.contains("gemm_rows_plain/n"), "{text}");
        }
    }

    #[test]
    fn every_product_can_be_tried_by_itself_with_every_candidate() {
        let sites = products(&mut program(), &software()).unwrap();
        let found: Vec<_> = sites.iter().map(|site| (site.product.as_str(), site.uses)).collect();
        assert_eq!(found, [("matmul_nn 8x16 16x12", 2), ("matmul_nn 8x12 12x4", 1)]);
        for site in &sites {
            assert!(site.trials.len() > 1);
            for trial in &site.trials {
                assert_eq!(kernels(&trial.plan)[0], trial.kernel.label());
                let names: Vec<&str> = trial.plan.buffers.iter().filter(|b| b.declared).map(|b| b.name.as_str()).collect();
                assert!(site.inputs.iter().all(|(name, _)| names.contains(&name.as_str())), "{names:?}");
                assert_eq!(trial.plan.buffers[trial.output].words, if site.uses == 2 { 8 * 12 } else { 8 * 4 });
            }
        }
    }
}
