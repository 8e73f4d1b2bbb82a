"""The networks: FC-DenseNet, U-Net generator and timm backbones with a linear head per sex."""
