"""The work that every contender is asked to do: the same content, each in its own form."""

__all__ = ["ACTION", "PLAN", "SERVICES", "arguments"]

ACTION = "deploy"
SERVICES = ["kuma", "dns"]
PLAN = {"steps": ["pull", "run", "check"], "image": "kuma:2"}


def arguments() -> dict[str, object]:
    """The content as the arguments of a job, for those that store one document."""
    return {"services": SERVICES, "plan": PLAN}
