"""The AWS resources of a stage, except its function: one CloudFormation stack, made from records and settings.

`template.stage_template` makes the template and `stack.Stack` deploys it; `manage.py infrastructure` calls both.
This code runs on the machine that deploys, never on Lambda: it needs troposphere and boto3, which are not shipped.
"""
