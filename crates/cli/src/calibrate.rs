//! `lazytlb calibrate`: costs of this machine, as far as user space can measure them.

use anyhow::bail;
use lazytlb_calibrate::{Measured, measure};
use lazytlb_price::{Costs, Figure, Parameter};
use serde::Serialize;

use crate::arguments::Calibrate;
use crate::numbers::grouped;
use crate::progress::Display;
use crate::report::{Ending, Report, print, table};

/// Runs the command.
pub(crate) fn run(options: &Calibrate) -> anyhow::Result<Ending> {
    if let Some(file) = &options.output
        && file.exists()
        && !options.force
    {
        bail!(
            "{} is there already: choose another name with -o, or say --force",
            file.display()
        );
    }
    let file = options.output.as_deref();
    let file = file.map(|file| Report::open_file(file, "--output"));
    let file = file.transpose()?;
    let measured = {
        let display = Display::new("measuring".to_owned());
        measure(|what| display.say(what.to_owned()))?
    };
    if let Some(mut file) = file {
        file.line(measured.costs.to_toml().trim_end())?;
        file.finish()?;
    }
    match options.json {
        true => {
            for parameter in Parameter::ALL {
                let record = FigureRecord::new(parameter, &measured);
                print(&(serde_json::to_string(&record)? + "\n"))?;
            }
        }
        false => tell(options, &measured)?,
    }
    for note in &measured.notes {
        eprintln!("note: {note}");
    }
    Ok(Ending::Good)
}

fn tell(options: &Calibrate, measured: &Measured) -> anyhow::Result<()> {
    let header = ["cost", "measured, cycles", "shipped, cycles"];
    let mut rows = table(&header, 1..3);
    let shipped = Costs::shipped();
    for &parameter in &measured.parameters {
        let own = range(measured.costs.figure(parameter));
        rows.add_row([
            parameter.name().to_owned(),
            own,
            range(shipped.figure(parameter)),
        ]);
    }
    let clock = measured.costs.reference_ghz();
    print(&format!(
        "{}, low / typical / high, in cycles of {clock} GHz:\n{rows}\n",
        measured.machine
    ))?;
    if let Some(file) = &options.output {
        eprintln!("next: lazytlb decide --costs {}", file.display());
    }
    Ok(())
}

fn range(figure: &Figure) -> String {
    let ends = [figure.low, figure.typical, figure.high];
    ends.map(|cycles| grouped(cycles as u64)).join(" / ")
}

/// A figure as JSON.
#[derive(Serialize)]
struct FigureRecord<'a> {
    cost: &'static str,
    is_measured: bool,
    low: f64,
    typical: f64,
    high: f64,
    origin: &'a str,
}

impl<'a> FigureRecord<'a> {
    fn new(parameter: Parameter, measured: &'a Measured) -> FigureRecord<'a> {
        let Figure {
            low,
            typical,
            high,
            origin,
        } = measured.costs.figure(parameter);
        FigureRecord {
            cost: parameter.name(),
            is_measured: measured.parameters.contains(&parameter),
            low: *low,
            typical: *typical,
            high: *high,
            origin,
        }
    }
}
