use ganymede::data::{self, LoadOptions, SheetOrder};
#[test]
fn sheets() {
    let dir = std::env::var("SHEETS").unwrap();
    let t = std::time::Instant::now();
    let d = data::load("builtin:digits", &LoadOptions::default()).unwrap();
    println!("digits {:?}", t.elapsed());
    let t = std::time::Instant::now();
    let s = data::load("builtin:shapes", &LoadOptions::default()).unwrap();
    println!("shapes {:?}", t.elapsed());
    let big = |i: image::DynamicImage, k: u32| {
        let (w, h) = (i.width(), i.height());
        i.resize(w * k, h * k, image::imageops::FilterType::Nearest)
    };
    big(d.contact_sheet(10, 10, SheetOrder::ByClass), 4)
        .save(format!("{dir}/digits.png"))
        .unwrap();
    big(s.contact_sheet(12, 16, SheetOrder::ByClass), 2)
        .save(format!("{dir}/shapes.png"))
        .unwrap();
    let labels = d.labels.as_ref().unwrap();
    let mut mean = [0f64; 10];
    let mut ink = [0f64; 10];
    let mut n = [0f64; 10];
    for i in 0..d.count {
        let l = labels[i] as usize;
        n[l] += 1.0;
        mean[l] += d.image(i).iter().map(|&b| b as f64).sum::<f64>() / 784.0;
        ink[l] += d.image(i).iter().filter(|&&b| b > 0).count() as f64 / 784.0;
    }
    let target = [44.2, 19.4, 38.0, 36.1, 30.9, 32.8, 35.0, 29.2, 38.3, 31.3];
    for l in 0..10 {
        println!("{l}: mean {:.1} (target {}) ink {:.3}", mean[l] / n[l], target[l], ink[l] / n[l]);
    }
    println!(
        "all mean {:.4} ink {:.4}",
        mean.iter().sum::<f64>() / 10000.0 / 255.0,
        ink.iter().sum::<f64>() / 10000.0
    );
}
