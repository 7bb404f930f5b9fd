//! Single operations.

use burn::backend::Dispatch;
use burn::backend::ops::ModuleOps;
use burn::module::{Module, Param};
use burn::optim::{AdamConfig, GradientsParams};
use burn::tensor::activation::leaky_relu;
use burn::tensor::module::{conv2d, conv2d_weight_backward};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Distribution, Tensor};
use serde_json::Value;
use std::any::Any;

/// One run of an operation; what it returns lives until the device is idle, so that nothing is optimised away.
pub type Run = Box<dyn FnMut() -> Box<dyn Any>>;

/// What to time for a workload of run.py.
///
/// # Errors
/// If the workload is of no known kind or lacks a field.
pub fn build(spec: &Value, device: &Device) -> Result<Run, String> {
    match text(spec, "kind")? {
        "matmul" => matmul(spec, device),
        "conv2d" => convolution(spec, device),
        "leaky_relu" => {
            let x = random([number(spec, "elements")?], device);
            Ok(Box::new(move || Box::new(leaky_relu(x.clone(), 0.2))))
        }
        "leaky_relu_backward" => Err("burn has no backward pass of LeakyReLU by itself".into()),
        "adam" => adam(spec, device),
        kind => Err(format!("no workload of kind {kind:?}")),
    }
}

/// A field of a request that must be a whole number.
pub fn number(spec: &Value, field: &str) -> Result<usize, String> {
    let value = spec[field].as_u64().and_then(|n| usize::try_from(n).ok());
    value.ok_or_else(|| format!("expected a whole number as {field:?}, got {}", spec[field]))
}

/// A field of a request that must be a string.
pub fn text<'a>(spec: &'a Value, field: &str) -> Result<&'a str, String> {
    spec[field].as_str().ok_or_else(|| format!("expected a string as {field:?}, got {}", spec[field]))
}

fn random<const D: usize>(shape: [usize; D], device: &Device) -> Tensor<D> {
    Tensor::random(shape, Distribution::Normal(0.0, 1.0), device)
}

fn matmul(spec: &Value, device: &Device) -> Result<Run, String> {
    let [m, n, k] = [number(spec, "m")?, number(spec, "n")?, number(spec, "k")?];
    let (a, b) = (random([m, k], device), random([k, n], device));
    Ok(Box::new(move || Box::new(a.clone().matmul(b.clone()))))
}

fn convolution(spec: &Value, device: &Device) -> Result<Run, String> {
    let (kernel, stride, padding) = (number(spec, "kernel")?, number(spec, "stride")?, number(spec, "padding")?);
    let (inputs, outputs) = (number(spec, "inputs")?, number(spec, "outputs")?);
    let x = random([number(spec, "batch")?, inputs, number(spec, "height")?, number(spec, "width")?], device);
    let weight = random([outputs, inputs, kernel, kernel], device);
    let options = ConvOptions::new([stride; 2], [padding; 2], [1; 2], 1);
    let forward = {
        let (x, weight, options) = (x.clone(), weight.clone(), options.clone());
        move || conv2d(x.clone(), weight.clone(), None, options.clone())
    };
    let grad = random(forward().dims(), device);
    match text(spec, "pass")? {
        "forward" => Ok(Box::new(move || Box::new(forward()))),
        "input" => Ok(Box::new(move || {
            let [x, weight, grad] = [&x, &weight, &grad].map(|t| t.clone().into_dispatch());
            let result = Dispatch::conv2d_x_backward(x, weight, grad, options.clone());
            Box::new(Tensor::<4>::from_dispatch(result))
        })),
        "weight" => Ok(Box::new(move || Box::new(conv2d_weight_backward(x.clone(), weight.clone(), grad.clone(), options.clone())))),
        pass => Err(format!("no pass {pass:?} of a convolution")),
    }
}

/// A module that is one parameter.
#[derive(Module, Debug)]
struct Parameter {
    value: Param<Tensor<1>>,
}

fn adam(spec: &Value, device: &Device) -> Result<Run, String> {
    let count = number(spec, "elements")?;
    let gradient = random([count], device);
    let mut module = Some(Parameter { value: Param::from_tensor(random([count], &device.clone().autodiff())) });
    let mut optimiser = AdamConfig::new().with_beta_1(0.5).with_beta_2(0.999).with_epsilon(1e-8).init();
    Ok(Box::new(move || {
        // The module goes through the optimiser by value and comes back.
        if let Some(old) = module.take() {
            let mut grads = GradientsParams::new();
            grads.register(old.value.id, gradient.clone());
            module = Some(optimiser.step(2e-4, old, grads));
        }
        // Not the parameter itself: a second reference to it would keep the update from happening in place.
        Box::new(())
    }))
}
