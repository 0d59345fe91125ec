"""The one place that touches verl and vLLM: the CPU platform, the mends of bugs, the engine, the trainers, the doctor.

Everything is registered by the two entry points `verl.py` and `vllm.py`; nothing here needs an import by hand.
"""
