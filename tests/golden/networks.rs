//! Whole networks, as config files list them, against PyTorch's modules: names and shapes of tensors, outputs, gradients.

use crate::harness::run;
use ganymede::nn::layer::Layer;
use ganymede::nn::network::{InitScheme, Mode, Network};
use ganymede::nn::store::Role;

#[derive(serde::Deserialize)]
struct File {
    layers: Vec<Layer>,
}

#[test]
fn networks_of_config_files() {
    run("network_", 3, |t| {
        let text = t.fixture.parameters["network"].as_str().expect("the text of a network");
        let file: File = toml::from_str(&format!("layers = [{text}]")).unwrap_or_else(|error| panic!("{}: {error}", t.fixture.name));
        let sizes = |dims: &[usize]| dims[1..].to_vec();
        let network = Network {
            name: "N".into(),
            input: sizes(t.fixture.get("x").shape.dims()),
            data: crate::harness::list(t.fixture, "data"),
            layers: file.layers,
            init: InitScheme::PyTorch,
            classes: None,
        };
        let x = t.input("x")?;
        let mut params = ganymede::nn::network::Params::new();
        let mut wrt = vec![(x, "dx".to_string())];
        for spec in network.tensors()?.into_iter().filter(|spec| spec.role == Role::Parameter) {
            let key = format!("p.{}", spec.name);
            assert_eq!(t.fixture.get(&key).shape.dims(), spec.shape.dims(), "{key}");
            let leaf = t.input(&key)?;
            wrt.push((leaf, format!("d.{}", spec.name)));
            params.insert(spec.name, leaf);
        }
        let stored = t.fixture.tensors.keys().filter(|key| key.starts_with("p.")).count();
        assert_eq!(stored, params.len(), "{}: PyTorch has other parameters", t.fixture.name);
        let forward = network.forward(&mut t.program, &params, x, Mode::Train { groups: 1, noise: None }, "N")?;
        let names: Vec<(ganymede::graph::NodeId, &str)> = wrt.iter().map(|(node, name)| (*node, &*name.clone().leak())).collect();
        t.expect_with_gradients(forward.output, &names)
    });
}
