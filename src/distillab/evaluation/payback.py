"""When a distillation has paid for itself, and where that was measured."""

from math import ceil

from distillab.core.configuration import Prices
from distillab.core.cost_parts import Roi
from distillab.core.result_parts import Efficiency


def machine(measured: Efficiency | Roi) -> str:
    """Where a model was measured: `cpu, 2 threads`, `cuda`; empty where it is not known."""
    threads = measured.threads if measured.device == "cpu" else None
    return (measured.device or "") + (f", {threads} thread{'s' * (threads != 1)}" if threads else "")


def roi(
    prices: Prices,
    teacher: Efficiency,
    student: Efficiency,
    training_hours: float,
    *,
    tokens: tuple[float, float] | None = None,
    taught_hours: float | None = None,
    own_hours: float | None = None,
    steady: bool | None = None,
) -> Roi | None:
    """What predictions cost with the teacher and with the student, at the throughputs measured, and when it is earned.

    `training_hours` are of the teacher's outputs, networks in between, and the student's training. The teacher exists
    anyway, and the baseline is trained for the comparison alone; neither is in it.

    Models that write serve `tokens`, of which these are a second for teacher and student. For them it is also said when
    the teacher itself is paid back, whose training and scoring took `taught_hours`: after how many tokens, and over how
    many students it comes to no more for each than their own training, `own_hours`. `steady` is whether the rates of both
    were alike when repeated.

    None without a price or throughputs; `requests` and `days` are None where it never pays for itself or a day has no
    requests.
    """
    rates = tokens or (teacher.throughput, student.throughput)
    if prices.price_per_hour is None or not all(rates):
        return None
    with_teacher, with_student = (prices.price_per_hour / 3600 * 1e6 / rate for rate in rates)
    price = prices.price_per_hour * training_hours

    def earned(spent: float) -> int | None:
        return ceil(round(1e6 * spent / (with_teacher - with_student), 6)) if with_student < with_teacher else None

    requests, whole, students = earned(price), None, None
    if tokens and taught_hours is not None:
        whole = earned(prices.price_per_hour * (taught_hours + (own_hours or 0.0)))
        students = ceil(round(taught_hours / own_hours, 6)) if own_hours else None
    return Roi(
        price_per_hour=prices.price_per_hour,
        requests_per_day=prices.requests_per_day,
        training_hours=training_hours,
        teacher_per_million=with_teacher,
        student_per_million=with_student,
        distillation=price,
        requests=requests,
        days=requests / prices.requests_per_day if requests is not None and prices.requests_per_day else None,
        device=student.device,
        threads=student.threads,
        steady=teacher.steady and student.steady if steady is None else steady,
        unit="tokens" if tokens else None,
        with_teacher=whole,
        students=students,
    )
