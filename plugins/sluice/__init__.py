"""Sluice: releases LLM serving images onto Kubernetes + Istio, step by step, by evidence."""
