"""What a stage has on AWS beside its function: one CloudFormation stack, made from records and settings.

`template.stage_template` makes the template, `stack.Stack` brings it to AWS; `manage.py infrastructure` calls both.
All of this runs where somebody deploys, never on Lambda: it needs troposphere and boto3, which are not shipped.
"""
