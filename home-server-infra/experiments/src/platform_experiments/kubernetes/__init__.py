"""The platform on Kubernetes as a runtime: the only modules here that call kubectl and helm."""

from platform_experiments.kubernetes.runtime import KubernetesRuntime

__all__ = ["KubernetesRuntime"]
